"""Operations for migrations: make, drop and change schemas.

```python
from howdah.django.operations import CreateSchema, MoveToSchema

operations = [CreateSchema("reporting"), MoveToSchema("Product", "catalog")]
```
"""

from __future__ import annotations

from typing import Any

from django.db.migrations.operations.base import Operation
from django.db.migrations.operations.models import AlterModelTable

from howdah.django.names import Name, parse

__all__ = ["CreateSchema", "DropSchema", "MoveToSchema"]


class CreateSchema(Operation):
    """Create a schema, unless it is there; backwards it is dropped if it is empty.

    Tables need no such operation: the schema of a table is made with it.
    """

    reversible = True
    elidable = False

    def __init__(self, name: str) -> None:
        self.name = name

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Change nothing: models do not know of it."""

    def database_forwards(self, app_label: str, schema_editor: Any, *_states: Any) -> None:
        """Create it."""
        if _concerns(schema_editor, app_label):
            schema_editor.ensure_schema(self.name)

    def database_backwards(self, app_label: str, schema_editor: Any, *_states: Any) -> None:
        """Drop it."""
        if _concerns(schema_editor, app_label):
            schema_editor.drop_schema(self.name)

    def describe(self) -> str:
        """Say what it does."""
        return f"Create the schema {self.name}"

    @property
    def migration_name_fragment(self) -> str:
        """For the name of the file."""
        return f"create_schema_{self.name.lower()}"


class DropSchema(CreateSchema):
    """Drop a schema, which must be empty; backwards it is created."""

    def database_forwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        """Drop it."""
        super().database_backwards(app_label, schema_editor, *states)

    def database_backwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        """Create it."""
        super().database_forwards(app_label, schema_editor, *states)

    def describe(self) -> str:
        """Say what it does."""
        return f"Drop the schema {self.name}"

    @property
    def migration_name_fragment(self) -> str:
        """For the name of the file."""
        return f"drop_schema_{self.name.lower()}"


class MoveToSchema(AlterModelTable):
    """Move a model's table to a schema and keep its name: `db_table` without writing the table.

    The model's Meta has to say the same: `db_table = "SCHEMA.TABLE"`.

    Args:
        name: The model.
        schema: Where its table is to be.
        table: The table's name; None: as it is called now.
    """

    def __init__(self, name: str, schema: str, table: str | None = None) -> None:
        self.schema = schema
        self.asked = table
        super().__init__(name, table)

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return how to write it into a migration."""
        asked = {} if self.asked is None else {"table": self.asked}
        return type(self).__name__, [], {"name": self.name, "schema": self.schema, **asked}

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Give the model its new db_table."""
        model = state.models[app_label, self.name_lower]
        written = model.options.get("db_table") or f"{app_label}_{self.name_lower}"
        table = self.asked or parse(written).table
        plain = f"{self.schema}.{table}"
        name = Name(self.schema, table)
        self.table = plain if parse(plain) == name else name.db_table
        super().state_forwards(app_label, state)

    def describe(self) -> str:
        """Say what it does."""
        return f"Move the table of {self.name} to the schema {self.schema}"

    @property
    def migration_name_fragment(self) -> str:
        """For the name of the file."""
        return f"move_{self.name_lower}_to_{self.schema.lower()}"


def _concerns(schema_editor: Any, app_label: str) -> bool:
    from django.db import router

    return hasattr(schema_editor, "ensure_schema") and router.allow_migrate(
        schema_editor.connection.alias, app_label
    )
