"""Random operations, applied by Django to one alias and by the walk of a rebuild to another.

    python both_ways.py SEED OPERATIONS

Prints how many there were. What Django refuses is left out. Nothing is built on: a model that is
the base of others keeps its name, since Django itself cannot go on with its children then.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import django

sys.path.insert(0, ".")
django.setup()

from django.db import connections, models  # noqa: E402
from django.db.migrations import Migration  # noqa: E402
from django.db.migrations import operations as ops  # noqa: E402
from django.db.migrations.operations.base import Operation  # noqa: E402
from django.db.migrations.state import ModelState, ProjectState  # noqa: E402

from howdah.django.rebuild import migrating, states  # noqa: E402
from howdah.django.rebuild.states import State  # noqa: E402

Make = Callable[[], Operation]
"""Makes the same operation each time: renaming changes the fields of an operation in place."""
FEWEST, MOST = 3, 12


class Author:
    """Writes operations that fit the models there are."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.state = states.first(set())
        self.names = 0

    def operation(self) -> tuple[str, Make] | None:
        """Return an app and an operation in it; None where the one that was drawn does not fit."""
        if len(self.state.models) < FEWEST:
            return self.create(None)
        kinds = [self.create, self.child, self.keyed, self.proxy]
        if len(self.state.models) > MOST:
            kinds = []
        kinds += 3 * [self.add, self.relate, self.alter_key, self.alter, self.rename_field]
        kinds += [self.rename_model, self.remove, self.delete, self.table, self.together]
        kinds += [self.index, self.constraint, self.order, self.retarget]
        model = self.model()
        return None if model.options.get("proxy") else self.chance.choice(kinds)(model)

    def model(self) -> ModelState:
        return self.state.models[self.chance.choice(sorted(self.state.models))]

    def new(self, start: str) -> str:
        self.names += 1
        return f"{start}{self.names}"

    def column(self) -> Callable[[], models.Field]:
        made: list[Callable[[], models.Field]] = [
            lambda: models.IntegerField(default=1),
            lambda: models.IntegerField(null=True, unique=True),
            lambda: models.TextField(null=True),
            lambda: models.CharField(max_length=7, default="x", db_index=True),
            lambda: models.CharField(max_length=9, null=True, unique=True),
        ]
        return self.chance.choice(made)

    def relation(self) -> Callable[[], models.Field]:
        model = self.model()
        to, words = label(model), {"related_name": "+"}
        own = [one for one, field in model.fields.items() if field.unique and not field.is_relation]
        to_field = self.chance.choice([*own, None])
        cascade = {"on_delete": models.CASCADE, "null": True} | words
        made: list[Callable[[], models.Field]] = [
            lambda: models.ForeignKey(to, **cascade),
            lambda: models.ForeignKey(to, to_field=to_field, **cascade),
            lambda: models.OneToOneField(to, **cascade),
            lambda: models.ManyToManyField(to, **words),
        ]
        return self.chance.choice(made)

    def create(self, _: ModelState | None) -> tuple[str, Make]:
        name, column = self.new("M"), self.column()
        app = self.chance.choice(["one", "two"])
        return app, lambda: ops.CreateModel(
            name, [("id", models.AutoField(primary_key=True)), ("c", column())]
        )

    def child(self, model: ModelState) -> tuple[str, Make]:
        base, name, column = label(model), self.new("C"), self.new("x")
        words = {"parent_link": True, "primary_key": True, "auto_created": True}
        return "two", lambda: ops.CreateModel(
            name,
            [
                (f"{model.name_lower}_ptr", models.OneToOneField(base, models.CASCADE, **words)),
                (column, models.IntegerField(default=2)),
            ],
            bases=(base,),
        )

    def keyed(self, model: ModelState) -> tuple[str, Make]:
        to, name = label(model), self.new("K")
        words = {"primary_key": True, "related_name": "+"}
        return "one", lambda: ops.CreateModel(
            name, [("key", models.OneToOneField(to, models.CASCADE, **words))]
        )

    def proxy(self, model: ModelState) -> tuple[str, Make]:
        base, name = label(model), self.new("P")
        return "two", lambda: ops.CreateModel(name, [], options={"proxy": True}, bases=(base,))

    def add(self, model: ModelState) -> tuple[str, Make]:
        name, column = self.new("f"), self.column()
        return model.app_label, lambda: ops.AddField(model.name, name, column())

    def relate(self, model: ModelState) -> tuple[str, Make]:
        name, relation = self.new("r"), self.relation()
        return model.app_label, lambda: ops.AddField(model.name, name, relation())

    def alter_key(self, model: ModelState) -> tuple[str, Make] | None:
        name = next(iter(model.fields))
        if not isinstance(model.fields[name], models.AutoField):
            return None
        kind = self.chance.choice([models.AutoField, models.BigAutoField])
        return model.app_label, lambda: ops.AlterField(model.name, name, kind(primary_key=True))

    def field(self, model: ModelState, *, in_table: bool = False) -> str | None:
        fields = [
            name
            for name, one in model.fields.items()
            if not one.primary_key and not (in_table and one.many_to_many)
        ]
        return self.chance.choice(fields) if fields else None

    def alter(self, model: ModelState) -> tuple[str, Make] | None:
        if (name := self.field(model)) is None or model.fields[name].is_relation:
            return None
        words = {"null": True, "unique": model.fields[name].unique}
        if isinstance(model.fields[name], models.IntegerField):
            return model.app_label, lambda: ops.AlterField(
                model.name, name, models.BigIntegerField(**words)
            )
        length = self.chance.randrange(10, 60)
        return model.app_label, lambda: ops.AlterField(
            model.name, name, models.CharField(max_length=length, **words)
        )

    def retarget(self, model: ModelState) -> tuple[str, Make] | None:
        name, relation = self.field(model), self.relation()
        if name is None or type(model.fields[name]) is not type(relation()):
            return None
        if model.fields[name].many_to_many or not model.fields[name].is_relation:
            return None
        return model.app_label, lambda: ops.AlterField(model.name, name, relation())

    def rename_field(self, model: ModelState) -> tuple[str, Make] | None:
        old, new = self.field(model), self.new("n")
        return old and (model.app_label, lambda: ops.RenameField(model.name, old, new))

    def rename_model(self, model: ModelState) -> tuple[str, Make] | None:
        new = self.new("R")
        if label(model) in {base for one in self.state.models.values() for base in one.bases}:
            return None
        return model.app_label, lambda: ops.RenameModel(model.name, new)

    def remove(self, model: ModelState) -> tuple[str, Make] | None:
        name = self.field(model)
        return name and (model.app_label, lambda: ops.RemoveField(model.name, name))

    def delete(self, model: ModelState) -> tuple[str, Make] | None:
        key = model.app_label, model.name_lower
        others = (links for one, links in self.state.links.items() if one != key)
        if any(link.to == key for links in others for link in links):
            return None
        return model.app_label, lambda: ops.DeleteModel(model.name)

    def table(self, model: ModelState) -> tuple[str, Make]:
        name = self.new("t")
        return model.app_label, lambda: ops.AlterModelTable(model.name, name)

    def together(self, model: ModelState) -> tuple[str, Make]:
        columns = {name for _ in range(2) if (name := self.field(model, in_table=True))}
        fields = {tuple(sorted(columns))} if columns else set()
        return model.app_label, lambda: ops.AlterUniqueTogether(model.name, fields)

    def index(self, model: ModelState) -> tuple[str, Make] | None:
        field, name = self.field(model, in_table=True), self.new("i")
        return field and (
            model.app_label,
            lambda: ops.AddIndex(model.name, models.Index(fields=[field], name=name)),
        )

    def constraint(self, model: ModelState) -> tuple[str, Make] | None:
        field, name = self.field(model, in_table=True), self.new("k")
        condition = models.Q(**{f"{field}__isnull": False})
        words = {"fields": [field], "name": name, "condition": condition}
        return field and (
            model.app_label,
            lambda: ops.AddConstraint(model.name, models.UniqueConstraint(**words)),
        )

    def order(self, model: ModelState) -> tuple[str, Make] | None:
        field = self.field(model)
        if field is None or not isinstance(model.fields[field], models.ForeignKey):
            return None
        return model.app_label, lambda: ops.AlterOrderWithRespectTo(model.name, field)


def main(seed: int, wanted: int) -> None:
    author, theirs, done = Author(seed), ProjectState(), 0
    assert theirs.apps is not None  # as `migrate` does: it renders from the start
    while done < wanted:
        if (drawn := author.operation()) is None:
            continue
        app, make = drawn
        before = theirs.clone()
        try:
            with connections["other"].schema_editor() as editor:
                theirs = migration(app, make).apply(theirs, editor)
        except Exception as exc:  # noqa: BLE001 - whatever it is that Django refuses
            print(f"refused: {make().describe()}: {exc}", file=sys.stderr)
            theirs = before
            continue
        author.state = ours(migration(app, make), author.state)
        done += 1
    print(done)


def label(model: ModelState) -> str:
    return f"{model.app_label}.{model.name_lower}"


def migration(app: str, make: Make) -> Migration:
    made = Migration("random", app)
    made.operations = [make()]
    return made


def ours(made: Migration, state: State) -> State:
    return migrating.apply(migrating.Step(made, ("default",)), state, ["default"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
