"""For a PostgreSQL without PostGIS, as the embedded one: without the app `places`."""

from depot.settings import stock
from depot.settings.stock import *  # noqa: F403

INSTALLED_APPS = [app for app in stock.INSTALLED_APPS if app != "places"]
DATABASES = {alias: entry for alias, entry in stock.DATABASES.items() if alias != "geo"}
HOWDAH = {"REBUILD": {"allow": [stock.MAIN], "fixtures": ["sample_without_places"]}}
