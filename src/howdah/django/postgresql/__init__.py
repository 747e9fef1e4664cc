"""Django's PostgreSQL backend, for tables in schemas: ENGINE = "howdah.django.postgresql"."""
