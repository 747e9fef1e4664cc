#!/bin/sh
# Re-create the databases by hand, as it is done without Howdah: `howdah rebuild` in its place.
# The order of the apps and which alias each goes to are kept here, by hand.
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python}
manage() { "$PYTHON" manage.py "$@"; }

for schema in auth licensing catalog billing; do
    manage dbshell --database=default -- -q -c "DROP SCHEMA IF EXISTS $schema CASCADE"
    manage dbshell --database=default -- -q -c "CREATE SCHEMA $schema"
done
for schema in places survey; do
    manage dbshell --database=geo -- -q -c "DROP SCHEMA IF EXISTS $schema CASCADE"
    manage dbshell --database=geo -- -q -c "CREATE SCHEMA $schema"
done
manage dbshell --database=geo -- -q -c "DROP TABLE IF EXISTS places_region, django_migrations CASCADE"
manage dbshell --database=geo -- -q -c "CREATE EXTENSION IF NOT EXISTS postgis"

rm -f catalog/migrations/0*.py licensing/migrations/0*.py places/migrations/0*.py
manage makemigrations --verbosity 0 catalog licensing places
for app in contenttypes auth admin sessions oauth2_provider; do
    manage migrate --verbosity 0 $app --database=default
done
for app in catalog licensing; do
    manage migrate --verbosity 0 $app --database=data
done
manage migrate --verbosity 0 places --database=geo

for alias in default data geo; do
    manage loaddata --verbosity 0 sample --database=$alias
done
