"""Every error of the product, one tree.

The docstring of a class is its default message; ``suggestion`` is what a person can do next.

ViralError
├── MisuseError                 the caller's mistake: exit code 2
│   ├── TopologyError           a viral.toml with faults, all of them listed
│   └── UnknownRegionError      a region code that is not one
├── WaitTimeoutError            a bounded wait ran out; it names what it waited for
├── ClockAheadError             a time further ahead than clocks may differ
├── UnsupportedError            this machine cannot do what was asked
│   ├── NetworkUnavailableError wan mode cannot be had here
│   └── BinaryMissingError      an engine is not installed
├── PlatformError               the Machines API said no
│   ├── NotFoundError
│   ├── BadRequestError         the caller's mistake, found there: exit code 2
│   ├── ConflictError
│   │   └── LeaseHeldError      somebody else changes this machine
│   ├── NoCapacityError         no room for the machine there
│   ├── LostAnswerError         asked, and never answered: it may have happened
│   └── DeadlineError           a wait on the platform ran out
├── GlobeError                  the globe on this laptop could not do it
│   ├── PortTakenError
│   ├── DataFolderError         of another version or another deployment
│   ├── NoSpaceError
│   ├── AlreadyRunningError
│   ├── NotRunningError
│   └── MachineFailedError      a machine did not come up, or loops in a crash
├── OperationError              what an operator asked for was not brought to its end
│   ├── RefusedError            what was found speaks against it; nothing was changed
│   └── OtherOperatorError      somebody else is at work on the deployment
└── DatabaseError               reading or writing across regions
    ├── NoPrimaryError          nobody acknowledges writes at the moment
    ├── OneRegionError          a strict write while one region holds the data alone
    ├── NotInstalledError       the runtime's own tables are not in this database
    ├── AnsweredBeforeError     this idempotency key has its answer already
    ├── BusyError               every connection to a database is in use
    ├── ReplicaUnavailableError
    │   └── NodeGoneError       it broke off while it was read: nothing of that counts
    └── UnknownOutcomeError     a commit was sent and its answer never came
"""

from __future__ import annotations

import inspect


class ViralError(Exception):
    """Viral Engine could not do what was asked."""

    exit_code = 1
    suggestion = ""

    def __init__(self, message: str | None = None, *, suggestion: str | None = None) -> None:
        self.message = message or inspect.cleandoc(type(self).__doc__ or "").splitlines()[0]
        if suggestion is not None:
            self.suggestion = suggestion
        super().__init__(self.message)


class MisuseError(ViralError):
    """The command or its input is not valid."""

    exit_code = 2


class TopologyError(MisuseError):
    """The deployment file has faults."""

    def __init__(self, source: str, faults: tuple[str, ...]) -> None:
        self.source = source
        self.faults = faults
        noun = "fault" if len(faults) == 1 else "faults"
        lines = "".join(f"\n  - {fault}" for fault in faults)
        super().__init__(
            f"{source} has {len(faults)} {noun}:{lines}",
            suggestion="Every key is explained in docs/reference/viral.toml.md.",
        )


class UnknownRegionError(MisuseError):
    """There is no such region."""


class WaitTimeoutError(ViralError):
    """What was waited for did not happen in time."""


class ClockAheadError(ViralError):
    """A time lies further ahead than clocks may differ."""

    suggestion = "One of the two clocks is wrong: compare both machines with a time server."


class UnsupportedError(ViralError):
    """This machine cannot do what was asked."""


class NetworkUnavailableError(UnsupportedError):
    """The wan network needs the right to make network namespaces, and it cannot be had here."""

    suggestion = "Use --network flat: the same processes on loopback, without delays."


class BinaryMissingError(UnsupportedError):
    """An engine that the globe needs is not installed."""

    suggestion = "Install the engines with: pip install 'viral-engine[globe]'"


class PlatformError(ViralError):
    """The platform refused the request."""

    def __init__(
        self, message: str | None = None, *, status: int = 0, suggestion: str | None = None
    ) -> None:
        self.status = status
        super().__init__(message, suggestion=suggestion)


class NotFoundError(PlatformError):
    """The platform knows nothing by that name."""


class BadRequestError(PlatformError):
    """The platform does not understand what was asked."""

    exit_code = 2


class ConflictError(PlatformError):
    """The platform refused because of what is there already."""


class LeaseHeldError(ConflictError):
    """Somebody else holds the lease of this machine."""


class NoCapacityError(PlatformError):
    """The platform has no room for this machine there."""


class LostAnswerError(PlatformError):
    """The platform was asked and its answer never came: it may have happened."""


class DeadlineError(PlatformError):
    """The platform did not reach the wanted state in time."""


class GlobeError(ViralError):
    """The globe could not do it."""


class PortTakenError(GlobeError):
    """A port that was asked for is in use."""


class DataFolderError(GlobeError):
    """The data folder belongs to something else."""


class NoSpaceError(GlobeError):
    """There is not enough space left for the data of the globe."""


class AlreadyRunningError(GlobeError):
    """A globe already runs from this data folder."""

    suggestion = "See it with: viral status. Stop it with: viral down."


class NotRunningError(GlobeError):
    """No globe runs from this data folder."""

    suggestion = "Start one with: viral up."


class MachineFailedError(GlobeError):
    """A machine did not come up."""

    def __init__(
        self, message: str | None = None, *, suggestion: str | None = None, machine: str = ""
    ) -> None:
        self.machine = machine
        super().__init__(message, suggestion=suggestion)


class OperationError(ViralError):
    """The operation did not come to its end."""


class RefusedError(OperationError):
    """What was found speaks against it; nothing was changed."""


class OtherOperatorError(OperationError):
    """Somebody else is at work on this deployment."""


class DatabaseError(ViralError):
    """The database could not serve the request."""


class NoPrimaryError(DatabaseError):
    """No primary acknowledges writes at the moment."""


class OneRegionError(DatabaseError):
    """Only one region holds the data at the moment, and this resource asks for two."""

    suggestion = "Repeat it when the other region's database is back."


class NotInstalledError(DatabaseError):
    """The runtime's own tables are not in this database, and an idempotency-key needs them."""

    suggestion = (
        "Run the package's viral_engine/data/schema.sql there once, as the owner of the database: "
        'psql "$DATABASE_URL" -f schema.sql'
    )


class AnsweredBeforeError(DatabaseError):
    """This idempotency key was answered before; the first answer is given again."""


class BusyError(DatabaseError):
    """Every connection of this process to the database is in use."""


class ReplicaUnavailableError(DatabaseError):
    """The replica of this region cannot serve reads at the moment."""


class NodeGoneError(ReplicaUnavailableError):
    """The database broke off while it was read; nothing of that counts, and it may be read again."""


class UnknownOutcomeError(DatabaseError):
    """The write may have happened: the connection broke while its commit was on the way."""

    suggestion = "Repeat it with the same idempotency-key, or look whether it is there first."
