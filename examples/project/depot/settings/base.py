"""What all variants of the settings share.

Host, port, role and password are libpq's: PGHOST, PGPORT, PGUSER, PGPASSWORD.
"""

import os
from pathlib import Path

SECRET_KEY = "an example, and nobody's secret"
DEBUG = False
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
FIXTURE_DIRS = [Path(__file__).resolve().parents[2] / "fixtures"]
ROOT_URLCONF = "depot.urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "oauth2_provider",
    "catalog",
    "licensing",
    "places",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
MAIN = os.environ.get("DEPOT_DATABASE", "depot")
GEO = os.environ.get("DEPOT_GEO_DATABASE", "depot_geo")
