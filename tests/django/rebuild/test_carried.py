"""What people gave the old objects, the new ones have: pg_dump says the same before and after."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest

from tests.django.rebuild.test_strategies import role
from tests.fixtures.django_project import Project

pytestmark = pytest.mark.long

GIVEN = """
    ALTER TABLE store.shelf OWNER TO {keeper};
    ALTER SCHEMA store OWNER TO {keeper};

    GRANT USAGE ON SCHEMA store TO {reader} WITH GRANT OPTION;
    GRANT SELECT, INSERT ON store.shelf TO {reader};
    GRANT UPDATE (price), SELECT (name) ON shop.shop_item TO {reader} WITH GRANT OPTION;
    GRANT SELECT ON public.note TO PUBLIC;
    GRANT USAGE ON SEQUENCE shop.shop_item_id_seq TO {reader};
    REVOKE DELETE ON shop.shop_item FROM postgres;

    ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO {reader};
    ALTER DEFAULT PRIVILEGES FOR ROLE {keeper} IN SCHEMA store
        GRANT USAGE ON SEQUENCES TO {reader} WITH GRANT OPTION;
    ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT EXECUTE ON ROUTINES TO {reader};

    COMMENT ON SCHEMA shop IS 'what is sold';
    COMMENT ON TABLE store.shelf IS 'it''s a board';
    COMMENT ON COLUMN shop.shop_item.name IS 'as printed';
    COMMENT ON INDEX shop.{index} IS 'for the search';
    COMMENT ON CONSTRAINT shelf_name_key ON store.shelf IS 'no two alike';
    COMMENT ON SEQUENCE shop.shop_item_id_seq IS 'of the items';
    COMMENT ON TABLE public.note IS 'beside an extension';

    CREATE PUBLICATION goods FOR TABLE store.shelf, shop.shop_item (id, name, shelf_id)
        WHERE (price > 0 AND name <> 'it''s');
    CREATE PUBLICATION notes FOR TABLE public.note WITH (publish = 'insert');

    ALTER TABLE shop.shop_item REPLICA IDENTITY FULL;
    ALTER TABLE store.shelf REPLICA IDENTITY USING INDEX shelf_name_key;
    ALTER TABLE public.note REPLICA IDENTITY NOTHING;

    ALTER ROLE {reader} IN DATABASE "{main}" SET search_path = store, shop;
    ALTER DATABASE "{main}" SET work_mem = '5MB';
    GRANT TEMPORARY ON DATABASE "{main}" TO {reader};

    GRANT USAGE ON SCHEMA shop TO {keeper} WITH GRANT OPTION;
    GRANT SELECT, UPDATE ON shop.shop_item TO {keeper} WITH GRANT OPTION;
    GRANT UPDATE (name) ON shop.shop_item TO {keeper} WITH GRANT OPTION;
    SET ROLE {keeper};
    GRANT USAGE ON SCHEMA shop TO {reader};
    GRANT SELECT ON shop.shop_item TO {reader};
    GRANT UPDATE (name) ON shop.shop_item TO {reader};
"""
NAMESPACES = "CREATE PUBLICATION whole FOR TABLES IN SCHEMA store"
INDEX = "SELECT indexname FROM pg_indexes WHERE tablename = 'shop_item' AND indexdef LIKE '%_ops)'"


@pytest.fixture
def given(small: Project) -> Iterator[Project]:
    small.rebuild()
    names = {one: f"{one}_{secrets.token_hex(4)}" for one in ("keeper", "reader")}
    for name in names.values():
        small.ask(f"CREATE ROLE {name}")
    try:
        [index] = small.ask(INDEX)
        small.ask(GIVEN.format(**names, index=index, main=small.main))
        if small.ask("SHOW server_version_num") >= ["150000"]:
            small.ask(NAMESPACES)
        yield small
    finally:
        for name in names.values():
            small.ask(f"REASSIGN OWNED BY {name} TO postgres; DROP OWNED BY {name}")
            small.ask(f"DROP ROLE {name}")


@pytest.mark.parametrize("way", [(), ("--in-place",)], ids=["aside", "in place"])
def test_all_that_people_gave_is_there_again(given, way):
    before = given.described("--schema-only", "--create")
    ids = "SELECT oid::bigint FROM pg_class WHERE relname IN ('shelf', 'shop_item', 'note')"
    old = given.ask(ids)

    given.rebuild(*way)

    assert set(given.ask(ids)).isdisjoint(old)
    after = given.described("--schema-only", "--create")
    lost, new = (set(one) - set(other) for one, other in ((before, after), (after, before)))
    assert not lost | new, "\n".join([*(f"- {one}" for one in lost), *(f"+ {one}" for one in new)])


def test_role_that_may_not_act_for_who_granted_grants_as_the_owner(small):
    as_superuser = dict(small.server)
    keeper, reader = (f"{one}_{secrets.token_hex(4)}" for one in ("keeper", "reader"))
    small.ask(f"CREATE ROLE {keeper}; CREATE ROLE {reader}")
    given = (
        "SELECT grantor::regrole::text FROM pg_class, aclexplode(relacl)"
        f" WHERE oid = 'shop.shop_item'::regclass AND grantee = '{reader}'::regrole"
    )
    with role(small, "CREATEDB") as owner:
        small.rebuild("--in-place")
        with psycopg.connect(dbname=small.main, **as_superuser) as conn:
            conn.execute(
                f"GRANT USAGE ON SCHEMA shop TO {keeper};"
                f"GRANT SELECT ON shop.shop_item TO {keeper} WITH GRANT OPTION;"
                f"SET ROLE {keeper}; GRANT SELECT ON shop.shop_item TO {reader}"
            )
        assert small.ask(given) == [keeper]

        small.rebuild("--in-place")

        assert small.ask(given) == [owner]
        small.ask("DROP SCHEMA shop CASCADE")
    small.ask(f"DROP ROLE {keeper}; DROP ROLE {reader}")
