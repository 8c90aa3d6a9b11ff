"""Fixtures that start an engine once for all the tests of this folder."""

from __future__ import annotations

from tests.services.postgres_pair import database, postgres_pair
from tests.services.task_service import migrated

__all__ = ["database", "migrated", "postgres_pair"]
