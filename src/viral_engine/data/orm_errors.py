from __future__ import annotations

from sqlalchemy.exc import OperationalError

from viral_engine.errors import BusyError, NoPrimaryError, ReplicaUnavailableError

__all__ = ["OrmBusyError", "OrmNoPrimaryError", "OrmReplicaUnavailableError", "as_operational"]


class OrmBusyError(OperationalError, BusyError):
    """BusyError, for who waits for SQLAlchemy's error of a database that is away."""


class OrmNoPrimaryError(OperationalError, NoPrimaryError):
    """NoPrimaryError, for who waits for SQLAlchemy's error of a database that is away."""


class OrmReplicaUnavailableError(OperationalError, ReplicaUnavailableError):
    """ReplicaUnavailableError, for who waits for SQLAlchemy's error of a database that is away."""


def as_operational(error: BaseException) -> Exception | None:
    """Return ``error`` as one that is SQLAlchemy's OperationalError as well, where it is of ours.

    None where it is another. A commit of unknown outcome stays what it is: an app that repeats
    what failed operationally must not repeat that.
    """
    if isinstance(error, OperationalError):
        return None
    if isinstance(error, BusyError):
        return OrmBusyError(None, None, error)
    if isinstance(error, NoPrimaryError):
        return OrmNoPrimaryError(None, None, error)
    if isinstance(error, ReplicaUnavailableError):
        return OrmReplicaUnavailableError(None, None, error)
    return None
