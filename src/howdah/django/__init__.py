"""Howdah's part for Django projects: backends that know schemas, a router, and rebuild."""

from __future__ import annotations

from howdah.django.router import Router

__all__ = ["Router"]
