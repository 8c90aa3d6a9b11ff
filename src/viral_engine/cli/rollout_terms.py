"""What the options of a rollout are made of."""

from __future__ import annotations

import re
from datetime import timedelta

import click

from viral_engine.errors import MisuseError
from viral_engine.operations.rollout import Version
from viral_engine.topology.names import is_reserved

APP_VARIABLE = "VIRAL_APP"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Share(click.ParamType[float]):
    """A share such as 1% or 0.01, above 0 and below 1."""

    name = "SHARE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return it."""
        text = str(value)
        try:
            found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            found = 0.0
        if not 0 < found < 1:
            self.fail(
                f"{text!r} is not a share above 0 and below 1, such as 1% or 0.01", param, ctx
            )
        return found


def milliseconds(duration: timedelta) -> float:
    """A duration in milliseconds."""
    return duration / timedelta(milliseconds=1)


def version(image: str | None, app: str | None, variables: tuple[str, ...]) -> Version:
    """What is to be rolled out; raises MisuseError for nothing, and for names that are not free."""
    env: dict[str, str | None] = {}
    for said in variables:
        name, equals, value = said.partition("=")
        if _NAME.fullmatch(name) is None or not (equals or name):
            raise MisuseError(
                f"{said!r} sets no variable.",
                suggestion="Write --env NAME=VALUE, or NAME to unset.",
            )
        if is_reserved(name):
            raise MisuseError(
                f"{name} is set by the platform or by viral itself.",
                suggestion="Another app is rolled out with: --app module:attribute",
            )
        env[name] = value if equals else None
    if app is not None:
        env[APP_VARIABLE] = app
    if image is None and not env:
        raise MisuseError(
            "Nothing to roll out was named.",
            suggestion="Name --image IMAGE, --app module:attribute or --env NAME=VALUE.",
        )
    return Version(image, env)
