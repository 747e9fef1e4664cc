"""The same databases with Howdah's ENGINEs: two mappings in place of search_paths and a router."""

from depot.settings.base import *  # noqa: F403
from depot.settings.base import GEO, INSTALLED_APPS, MAIN

INSTALLED_APPS = ["howdah.django", *INSTALLED_APPS]
DATABASES = {
    "default": {"ENGINE": "howdah.django.postgresql", "NAME": MAIN},
    "data": {"ENGINE": "howdah.django.postgresql", "NAME": MAIN},
    "geo": {"ENGINE": "howdah.django.postgis", "NAME": GEO},
}
DATABASE_ROUTERS = ["howdah.django.Router"]
HOWDAH = {
    "DATABASES": {"catalog": "data", "licensing": "data", "places": "geo"},
    "SCHEMAS": {"*": "auth", "catalog": "catalog", "licensing": "licensing", "places": "places"},
    "REBUILD": {
        "allow": [MAIN, GEO],
        "fixtures": ["sample"],
    },
}
