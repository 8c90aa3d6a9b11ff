"""``viral render``: the platform's own file for a deployment."""

from __future__ import annotations

from pathlib import Path

import click

from viral_engine.cli.output import command_errors, console, json_option, print_json
from viral_engine.errors import MisuseError
from viral_engine.operations.fly_file import WRITTEN_BY, fly_file
from viral_engine.topology.load import load, load_folder


@click.command()
@click.argument("what", metavar="WHAT", type=click.Choice(["fly.toml"]))
@click.option("--file", "-f", type=click.Path(path_type=Path, dir_okay=False),
              help="Default: viral.toml of this folder, else two regions.")  # fmt: skip
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Write it there; else print it.")
@click.option("--image", metavar="IMAGE", help="The image to run; else the Dockerfile beside it.")
@click.option("--force", is_flag=True, help="Replace a file that was written by hand.")
@json_option
@command_errors
def render(
    what: str, file: Path | None, out: Path | None, image: str | None, force: bool, as_json: bool
) -> None:
    """Write the fly.toml of the deployment: the app that users reach, and no secret."""
    text = fly_file(load(file) if file else load_folder(Path.cwd()), image=image)
    if out is not None:
        _write(out, text, force=force)
    if as_json:
        print_json({"what": what, "out": str(out) if out else None, "text": text})
    elif out is None:
        click.echo(text, nl=False)
    else:
        console().print(f"Wrote {out}.", markup=False)


def _write(out: Path, text: str, *, force: bool) -> None:
    try:
        by_hand = out.exists() and WRITTEN_BY not in out.read_text("utf-8").split("\n", 1)[0]
        if by_hand and not force:
            raise MisuseError(
                f"{out} was written by hand",
                suggestion="Replace it with --force, or write another file with --out.",
            )
        out.write_text(text, "utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MisuseError(f"{out} cannot be written: {error}") from error
