"""Connections: see them, size them, raise their limit, share them."""

from __future__ import annotations
