"""Plays stories one after the other; one that cannot be judged is unknown, and the next is played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from viral_engine.errors import RefusedError, UnsupportedError, ViralError
from viral_engine.operations.drills.conclusion import unplayed
from viral_engine.operations.drills.drill import Rig, play
from viral_engine.operations.drills.options import Options, seconds_of
from viral_engine.operations.drills.repertoire import drawn
from viral_engine.operations.drills.result import Result
from viral_engine.operations.drills.story import Story

__all__ = ["play_all"]


async def play_all(
    chosen: Sequence[Story], stories: Mapping[str, Story], options: Options, rig: Rig
) -> list[Result]:
    """Return the result of each story; ``stories`` are those that one may draw from.

    Raises RefusedError, and breaks nothing, where the first one finds a deployment that is not well.
    """
    settled = [drawn(one, stories, Random(options.seed)) for one in chosen]  # noqa: S311 - a schedule
    for story in settled:
        seconds_of(story, options)
    results: list[Result] = []
    for story in settled:
        folder = rig.folder / story.name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            results.append(await play(story, options, replace(rig, folder=folder)))
        except RefusedError as error:
            if not results:
                raise
            results.append(unplayed(story, options, error.message))
        except UnsupportedError as error:
            results.append(unplayed(story, options, error.message))
        except (ViralError, ExceptionGroup) as error:
            results.append(unplayed(story, options, f"it did not come to its end: {_said(error)}"))
    return results


def _said(error: ViralError | ExceptionGroup[Exception]) -> str:
    """Return what went wrong, in each task of a group; raises it anew where that is no error of ours."""
    if isinstance(error, ViralError):
        return error.message
    ours, others = error.split(ViralError)
    if others is not None or ours is None:
        raise error
    return "; ".join(_said(one) for one in ours.exceptions)
