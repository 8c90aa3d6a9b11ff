"""Fixtures that start an engine once for all the tests of this folder."""

from __future__ import annotations

from tests.services.orm_world import things
from tests.services.postgres_pair import database, postgres_pair
from tests.services.strong_world import numbers
from tests.services.task_service import migrated

__all__ = ["database", "migrated", "numbers", "postgres_pair", "things"]
