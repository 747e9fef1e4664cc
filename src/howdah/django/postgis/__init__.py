"""GeoDjango's PostGIS backend, for tables in schemas: ENGINE = "howdah.django.postgis"."""
