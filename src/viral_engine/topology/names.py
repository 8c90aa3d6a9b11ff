"""What the parts of a deployment are called in the environment of its machines."""

from __future__ import annotations

import re

__all__ = [
    "DATABASE_URL",
    "PGBOUNCER_URL",
    "REDIS_URL",
    "is_reserved",
    "redis_url_variable",
    "replica_url_variable",
]

DATABASE_URL = "DATABASE_URL"
PGBOUNCER_URL = "PGBOUNCER_URL"
REDIS_URL = "REDIS_URL"

_RESERVED = re.compile(
    r"FLY_.*|VIRAL_.*|PORT|PRIMARY_REGION|DATABASE_URL|PGBOUNCER_URL"
    r"|READ_REPLICA_[A-Z]{3}_URL|REDIS_URL|REDIS_[A-Z]{3}_URL"
)


def replica_url_variable(region: str) -> str:
    """Return the variable with the address of a region's own database: READ_REPLICA_LHR_URL."""
    return f"READ_REPLICA_{region.upper()}_URL"


def redis_url_variable(region: str) -> str:
    """Return the variable with the address of a region's own cache: REDIS_LHR_URL."""
    return f"REDIS_{region.upper()}_URL"


def is_reserved(variable: str) -> bool:
    """Tell whether the platform or the product sets this variable, so that a file must not."""
    return _RESERVED.fullmatch(variable) is not None
