"""Fixtures that start an engine once for all the tests of this folder."""

from __future__ import annotations

from tests.services.postgres_pair import database, postgres_pair

__all__ = ["database", "postgres_pair"]
