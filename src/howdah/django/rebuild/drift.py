"""What the models say and no migration makes: a rebuild from migrations would not have it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.apps import apps
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from howdah.django.rebuild import states
from howdah.errors import HowdahError

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Drift:
    """An app whose models are ahead of its migrations.

    Attributes:
        app: Its label.
        changes: What `makemigrations` would write, in its words; empty: it has no
            migrations folder, so that Django makes no tables for its models.
    """

    app: str
    changes: tuple[str, ...]

    def __str__(self) -> str:
        if not self.changes:
            return f"{self.app} has models and no migrations folder, so it gets no tables"
        what = "; ".join(self.changes[:_SHOWN])
        if len(self.changes) > _SHOWN:
            what += f"; {len(self.changes) - _SHOWN} more"
        return f"the models of {self.app} have what no migration makes ({what})"


REMEDY = "manage.py makemigrations; or rebuild with --remake-migrations or --from-models"


@contextmanager
def blamed(drift: Sequence[Drift]) -> Generator[None]:
    """Name the drift where something fails that may fail for it.

    Raises:
        HowdahError: As it was, with another next step.
    """
    try:
        yield
    except HowdahError as exc:
        if drift:
            exc.next_step = f"Perhaps it is that {drift[0]}. Then run: {REMEDY}"
        raise


def find_drift(loader: MigrationLoader | None = None) -> tuple[Drift, ...]:
    """Return the apps whose models are ahead of their migrations, without asking a database.

    Args:
        loader: With the migrations as they are now; None: read them.

    Source: https://docs.djangoproject.com/en/5.2/ref/django-admin/#cmdoption-makemigrations-check
    """
    loader = loader or MigrationLoader(None)
    detector = MigrationAutodetector(states.last(loader), ProjectState.from_apps(apps))
    changed = [
        Drift(app, tuple(one.describe() for migration in found for one in migration.operations))
        for app, found in detector.changes(graph=loader.graph).items()
    ]
    bare = [Drift(app, ()) for app in sorted(loader.unmigrated_apps) if _has_tables(app)]
    return (*changed, *bare)


def _has_tables(label: str) -> bool:
    return any(model._meta.managed for model in apps.get_app_config(label).get_models())
