"""The way for roles that may not create databases: in the live database, in one transaction."""

from __future__ import annotations
