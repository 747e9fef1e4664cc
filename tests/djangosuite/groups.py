"""Which of Django's test packages are run, and which of them need PostGIS."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Part:
    """Packages that run in one process, on one kind of database.

    Attributes:
        name: For the table and the names of files.
        labels: What runtests.py is asked for.
        backend: The module of the ENGINE: "postgresql" or "postgis".
        modes: In which modes our ENGINE is judged.
    """

    name: str
    labels: tuple[str, ...]
    backend: str = "postgresql"
    modes: tuple[str, ...] = ("as is", "schemas")

    @property
    def stock_engine(self) -> str:
        gis = "contrib.gis." if self.backend == "postgis" else ""
        return f"django.{gis}db.backends.{self.backend}"

    @property
    def our_engine(self) -> str:
        return f"howdah.django.{self.backend}"


# What makes, changes and reads schemas.
DDL = """
    backends constraints db_typecasts dbshell indexes inspectdb introspection migrate_signals
    migration_test_data_persistence migrations migrations2 custom_migration_operations
    model_indexes model_options schema swappable_models unmanaged_models
"""

# What queries and writes.
QUERIES = """
    aggregation aggregation_regress annotations basic bulk_create cache composite_pk
    contenttypes_tests custom_columns custom_lookups custom_managers custom_pk datatypes dates
    datetimes db_functions db_utils defer defer_regress delete delete_regress distinct_on_fields
    empty expressions expressions_case expressions_window extra_regress field_defaults
    filtered_relation fixtures fixtures_regress force_insert_update foreign_object from_db_value
    generic_relations generic_relations_regress get_or_create known_related_objects lookup
    m2m_and_m2o m2m_intermediary m2m_multiple m2m_recursive m2m_regress m2m_signals m2m_through
    m2m_through_regress m2o_recursive managers_regress many_to_many many_to_one many_to_one_null
    max_lengths model_fields model_inheritance model_inheritance_regress model_regress
    multiple_database mutually_referential nested_foreign_keys null_fk null_fk_ordering
    null_queries one_to_one or_lookups order_with_respect_to ordering postgres_tests
    prefetch_related proxy_model_inheritance proxy_models queries queryset_pickle raw_query
    reserved_names reverse_lookup save_delete_hooks select_for_update select_related
    select_related_onetoone select_related_regress serializers sites_framework str string_lookup
    timezones transaction_hooks transactions update update_only_fields validation xor_lookups
"""

# Whole applications on top.
APPS = """
    admin_changelist admin_custom_urls admin_docs admin_filters admin_inlines admin_ordering
    admin_utils admin_views auth_tests flatpages_tests generic_inline_admin generic_views
    modeladmin model_forms model_formsets redirects_tests sessions_tests sites_tests
    sitemaps_tests syndication_tests test_utils user_commands
"""

GIS = Part("gis", ("gis_tests",), "postgis")

ALL = (
    Part("ddl", tuple(DDL.split())),
    Part("queries", tuple(QUERIES.split())),
    Part("apps", tuple(APPS.split())),
    GIS,
)

# For CI: what makes, changes and reads schemas, and what of the rest is PostgreSQL's own. Tables
# where Django puts them are made, changed and read by gis too, so that ddl leaves them out.
QUICK = (
    replace(ALL[0], modes=("schemas",)),
    replace(ALL[1], labels=("multiple_database", "postgres_tests", "select_for_update")),
    GIS,
)
