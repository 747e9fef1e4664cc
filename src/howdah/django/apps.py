"""The app: "howdah.django" in INSTALLED_APPS brings the commands and the checks."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks

from howdah.django.checks import check_models
from howdah.django.placing import install

__all__ = ["HowdahConfig"]


class HowdahConfig(AppConfig):
    """Howdah in a Django project."""

    name = "howdah.django"
    label = "howdah"
    verbose_name = "Howdah"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        install()  # before any model is imported

    def ready(self) -> None:
        """Register the checks."""
        checks.register(check_models, checks.Tags.models)
