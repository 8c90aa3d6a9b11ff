from __future__ import annotations

import json
from collections.abc import Mapping

from viral_engine.errors import MisuseError
from viral_engine.topology.model import Consistency

__all__ = ["Declarations"]


class Declarations:
    """What consistency was declared for which paths.

    A resource such as ``users`` stands for ``/users`` and ``/api/users`` and all below them; a
    name that begins with ``/`` for that path and all below it. The longest match counts, and what
    was not declared is eventual.
    """

    def __init__(self, declared: Mapping[str, Consistency]) -> None:
        self._declared: dict[str, Consistency] = {}
        for name, consistency in declared.items():
            paths = (name.rstrip("/"),) if name.startswith("/") else (f"/{name}", f"/api/{name}")
            self._declared |= dict.fromkeys(paths, consistency)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Declarations:
        """Read VIRAL_CONSISTENCY, a JSON object of resources; raise MisuseError for anything else."""
        text = environ.get("VIRAL_CONSISTENCY") or "{}"
        try:
            declared = {str(name): Consistency(value) for name, value in json.loads(text).items()}
        except (ValueError, AttributeError) as error:
            raise MisuseError(
                f"VIRAL_CONSISTENCY is {text!r}, no JSON object of resources.",
                suggestion='It looks like {"users": "strong", "tasks": "eventual"}.',
            ) from error
        return cls(declared)

    def of(self, path: str, asked: str | None) -> Consistency | None:
        """Return what counts for a request: as declared, or more where its client ``asked`` for it.

        None where the client asks for something that there is not.
        """
        declared = self._of_path(path)
        if asked is None:
            return declared
        try:
            return declared.at_least(Consistency(asked.strip().lower()))
        except ValueError:
            return None

    def _of_path(self, path: str) -> Consistency:
        if not self._declared:
            return Consistency.EVENTUAL
        path = path.rstrip("/")
        while path:
            if path in self._declared:
                return self._declared[path]
            path = path.rpartition("/")[0]
        return self._declared.get("", Consistency.EVENTUAL)
