"""What a rollout brings to a machine, and what stands in a machine's metadata meanwhile: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from viral_engine.fly.model import MachineConfig
from viral_engine.operations.rollout.judge import Before
from viral_engine.operations.rollout_mark import MARK


class Strategy(StrEnum):
    """How the machines of a wave get a version."""

    ROLLING = "rolling"
    CANARY = "canary"
    BLUEGREEN = "bluegreen"


@dataclass(frozen=True, slots=True)
class Version:
    """An image (None: whichever runs) and variables of the environment (None: not set)."""

    image: str | None = None
    env: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What it is, for people."""
        said = [f"image {self.image}"] if self.image is not None else []
        said += [f"without {k}" if v is None else f"{k}={v}" for k, v in self.env.items()]
        return ", ".join(said)

    def runs_on(self, config: MachineConfig) -> bool:
        """Whether a machine with this configuration has it."""
        return self.left_by(config) == self

    def left_by(self, config: MachineConfig) -> Version:
        """What a configuration has of what this version sets: bringing that back undoes it."""
        image = None if self.image is None else config.image
        return Version(image, {name: config.env.get(name) for name in self.env})

    def brought_to(self, config: MachineConfig) -> MachineConfig:
        """Return a configuration with this version; all else stays as it is."""
        env = {k: v for k, v in config.env.items() if k not in self.env}
        env |= {k: v for k, v in self.env.items() if v is not None}
        return config.model_copy(update={"image": self.image or config.image, "env": env})


@dataclass(frozen=True, slots=True)
class Mark:
    """What has to be known to go on with a machine, or to bring it back.

    ``ran`` and ``served`` are whether it ran before, and whether users reached it; a ``guest`` is a
    machine beside the old ones, for the time of the bake.
    """

    to: Version
    was: Version
    strategy: Strategy
    ran: bool = True
    served: bool = True
    guest: bool = False
    before: Before = field(default_factory=Before)

    def text(self) -> str:
        """The mark as metadata have it; ``read`` reads it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, config: MachineConfig) -> Mark | None:
        """Return the mark of a machine; None where it bears none, or one that is none of ours."""
        try:
            said: dict[str, Any] = json.loads(config.metadata.get(MARK, ""))
            return cls(
                Version(**said["to"]), Version(**said["was"]), Strategy(said["strategy"]),
                said["ran"], said["served"], said["guest"], Before(**said["before"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            return None

    def put_on(self, config: MachineConfig) -> MachineConfig:
        """Return a configuration that bears the mark."""
        return config.model_copy(update={"metadata": {**config.metadata, MARK: self.text()}})
