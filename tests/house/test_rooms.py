"""The rooms of the house: what each says about itself, and who may ask whom."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import viral_engine
from viral_engine import errors

SOURCE = Path(viral_engine.__file__).parent
ROOT = Path(__file__).parents[2]
ROOMS = sorted(path.parent for path in SOURCE.glob("*/__init__.py"))
PACKAGES = sorted(path.parent for path in SOURCE.rglob("__init__.py"))
MODULES = sorted(SOURCE.rglob("*.py"))

# Where a process begins there is nobody to hand it its environment; each of these passes it on.
ENTRY_POINTS = {
    "viral_engine.nodes.__main__",  # what a machine's command runs
    "viral_engine.nodes.patroni_start",  # a child that becomes Patroni
    "viral_engine.operations.drills.meddler",  # run inside a machine by its platform
    "viral_engine.operations.drills.prober",  # the same
    "viral_engine.service.app",  # an ASGI server imports it by name
}


def name_of(path: Path) -> str:
    inside = path.relative_to(SOURCE.parent).with_suffix("")
    return ".".join(part for part in inside.parts if part != "__init__")


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_room_says_what_it_knows_and_what_it_refuses_to_know(package: Path) -> None:
    said = importlib.import_module(name_of(package)).__doc__ or ""
    assert len(said.split()) >= 10, f"{name_of(package)} opens without a paragraph about itself"


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_a_room_lists_what_it_offers_sorted_and_all_of_it_is_there(room: Path) -> None:
    module = importlib.import_module(name_of(room))
    offered = list(module.__all__)
    # As the linter sorts: constants, then classes, then the rest.
    assert offered == sorted(offered, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    missing = [name for name in offered if not hasattr(module, name)]
    assert not missing


def test_imports_point_down_only() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def undocumented(path: Path) -> Iterator[str]:
    def visit(body: list[ast.stmt], inside: str) -> Iterator[str]:
        for node in body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            decorators = {ast.unparse(one).split(".")[-1] for one in node.decorator_list}
            if node.name.startswith("_") or decorators & {"overload", "setter", "override"}:
                continue
            if ast.get_docstring(node) is None:
                yield f"{inside}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from visit(node.body, f"{inside}.{node.name}")

    yield from visit(ast.parse(path.read_text(encoding="utf-8")).body, name_of(path))


def test_every_public_class_and_function_promises_something() -> None:
    assert [name for path in MODULES for name in undocumented(path)] == []


def test_the_environment_is_read_only_where_a_process_begins() -> None:
    readers = {
        name_of(path)
        for path in MODULES
        if path.relative_to(SOURCE).parts[0] != "cli"
        and re.search(r"\bos\.(environ|getenv)\b", path.read_text(encoding="utf-8"))
    }
    assert readers - ENTRY_POINTS == set()


def drawn_tree() -> dict[str, str]:
    """Return each error of the drawing with the one above it."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│├└─ ]*)(\w+Error)\b", line)
        if match is None:
            continue
        depth = len(match[1])
        above = [(d, name) for d, name in above if d < depth]
        parents[match[2]] = above[-1][1] if above else "Exception"
        above.append((depth, match[2]))
    return parents


def test_the_drawing_of_the_errors_is_the_tree_of_their_classes() -> None:
    classes = {
        name: cls.__mro__[1].__name__
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__
    }
    assert drawn_tree() == classes
