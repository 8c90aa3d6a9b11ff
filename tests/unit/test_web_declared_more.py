from __future__ import annotations

import pytest

from viral_engine.errors import MisuseError
from viral_engine.topology.model import Consistency
from viral_engine.web.declared import Declarations


@pytest.mark.parametrize(
    ("path", "consistency"),
    [
        ("/users", "strong"),
        ("/users/", "strong"),
        ("/users/7/tasks", "strong"),
        ("/api/users/7", "strong"),
        ("/v2/users", "eventual"),
        ("/usersx", "eventual"),
        ("/shop/cart", "strict"),
        ("/shop/cart/1", "strict"),
        ("/shop/cart/1/notes", "eventual"),
        ("/shop", "eventual"),
        ("/", "eventual"),
    ],
)
def test_the_longest_declared_path_counts(path: str, consistency: str) -> None:
    declared = Declarations(
        {
            "users": Consistency.STRONG,
            "/shop/cart/": Consistency.STRICT,
            "/shop/cart/1/notes": Consistency.EVENTUAL,
        }
    )
    assert declared.of(path, None) == consistency


def test_all_paths_can_be_declared_at_once() -> None:
    declared = Declarations({"/": Consistency.STRONG, "tasks": Consistency.EVENTUAL})
    assert declared.of("/anything", None) is Consistency.STRONG
    assert declared.of("/tasks/1", None) is Consistency.EVENTUAL


@pytest.mark.parametrize(
    "text", ["strong", "[]", '"users"', '{"users": "very"}', '{"users": 1}', "{"]
)
def test_a_declaration_that_is_none_is_refused_with_what_it_looks_like(text: str) -> None:
    with pytest.raises(MisuseError) as refused:
        Declarations.from_environ({"VIRAL_CONSISTENCY": text})
    assert text in str(refused.value)
    assert '{"users": "strong", "tasks": "eventual"}' in refused.value.suggestion


@pytest.mark.parametrize("environ", [{}, {"VIRAL_CONSISTENCY": ""}, {"VIRAL_CONSISTENCY": "{}"}])
def test_nothing_declared_is_eventual(environ: dict[str, str]) -> None:
    assert Declarations.from_environ(environ).of("/users", None) is Consistency.EVENTUAL
