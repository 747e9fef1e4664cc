from __future__ import annotations

import pytest

from howdah.tuning.placeholders import Place, named, places

COLUMNS = ["id", "customer", "total"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (
            "INSERT INTO orders (customer, total) VALUES ($1, now()), ($2::int, $3) RETURNING id",
            {
                1: Place("customer"),
                2: Place("customer", row=1),
                3: Place("total", row=1),
            },
        ),
        ("/* shop */ INSERT INTO shop.orders VALUES ($1, $2, lower($3))", {1: "id", 2: "customer"}),
        (
            'INSERT INTO "Orders" ("Total") VALUES ($1) ON CONFLICT (id) DO UPDATE SET total = $2',
            {1: "Total", 2: "total"},
        ),
        (
            (
                'INSERT INTO "orders" ("customer", "total") '
                "SELECT * FROM UNNEST(($1)::integer[], ($2)::numeric[]) RETURNING id"
            ),
            {1: Place("customer", many=True), 2: Place("total", many=True)},
        ),
        (
            "UPDATE orders SET total = $1, note = note || $2 WHERE orders.id = $3 AND kind <= $4",
            {1: "total", 3: Place("id", sought=True)},
        ),
        (
            "UPDATE orders SET total = total + $1 WHERE id IN ($2, $3)",
            {2: Place("id", sought=True), 3: Place("id", row=1, sought=True)},
        ),
        ("UPDATE orders SET total = $1 WHERE id = ANY ($2)", {1: "total", 2: "any"}),
        (
            (
                'UPDATE "orders" SET "total" = (CASE WHEN ("orders"."id" = $1) THEN $2 '
                'WHEN ("orders"."id" = $3) THEN $4 ELSE $5 END)::numeric '
                'WHERE "orders"."id" IN ($6, $7)'
            ),
            {
                1: Place("id", sought=True),
                2: Place("total"),
                3: Place("id", row=1, sought=True),
                4: Place("total", row=1),
                6: Place("id", sought=True),
                7: Place("id", row=1, sought=True),
            },
        ),
        ("INSERT INTO orders SELECT id, $1 FROM former WHERE kind = $2", {2: "kind"}),
    ],
)
def test_what_a_placeholder_is_for_is_read_where_the_text_is_plain(query, found):
    seen = places(query, COLUMNS)
    short = {
        number: place if isinstance(place, Place) else Place(place)
        for number, place in found.items()
    }
    if "ANY" in query:
        short[2] = Place("id", sought=True, many=True)
    if "former" in query:
        short[2] = Place("kind", sought=True)

    assert seen == short


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("SELECT '$1', \"$2\", $3 -- $4", "SELECT '$1', \"$2\", %(p3)s -- $4"),
        ("SELECT a % $1", "SELECT a %% %(p1)s"),
        ("SELECT date $1, interval $12", "SELECT CAST(%(p1)s AS date), CAST(%(p12)s AS interval)"),
    ],
)
def test_placeholders_are_named_and_nothing_else_is_touched(query, text):
    assert named(query) == text
