"""Schemas as they are done today: Django's own ENGINEs, search_path, and the trick in db_table.

`default` and `data` are one database, seen through two search_paths; `geo` is another.
"""

from depot.settings.base import *  # noqa: F403
from depot.settings.base import GEO, MAIN

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": MAIN,
        "OPTIONS": {"options": "-c search_path=auth,public"},
    },
    "data": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": MAIN,
        "OPTIONS": {"options": "-c search_path=licensing,auth,public"},
    },
    "geo": {
        "ENGINE": "django.contrib.gis.db.backends.postgis",
        "NAME": GEO,
        "OPTIONS": {"options": "-c search_path=public"},
    },
}
DATABASE_ROUTERS = ["depot.routers.ByApp"]
HOWDAH = {
    "REBUILD": {
        "allow": [MAIN, GEO],
        "fixtures": ["sample"],
    }
}
