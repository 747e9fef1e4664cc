"""What `manage.py check --database ALIAS` looks at."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.validation import BaseDatabaseValidation

__all__ = ["DatabaseValidation"]


class DatabaseValidation(BaseDatabaseValidation):
    """Compare the database with what the models and the settings need of it."""

    def check(self, **kwargs: Any) -> list[Any]:
        """Return what is wrong, each with the line to write."""
        from howdah.django.checks import check_database

        return [*super().check(**kwargs), *check_database(self.connection)]
