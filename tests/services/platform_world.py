"""A platform without a deployment: the globe's own parts, in this process, on loopback."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.wire.contract import Checked

from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.fly.model import Init, MachineConfig
from viral_engine.globe.home import LAYOUT, Manifest, claim
from viral_engine.globe.network.addresses import NetworkMode
from viral_engine.globe.world import Globe, GlobeSpec
from viral_engine.nodes.binaries import Engines

APP = "shop"

WAITING = "import signal,sys;signal.signal(signal.SIGINT,lambda *_:sys.exit(0));signal.pause()"
STUBBORN = "import signal;signal.signal(signal.SIGINT,signal.SIG_IGN);print('up',flush=True)\nwhile True:signal.pause()"


@dataclass(frozen=True, slots=True)
class Running:
    globe: Globe
    client: FlyClient
    extension: GlobeExtension


@asynccontextmanager
async def platform(
    home: Path, *, regions: tuple[str, ...] = ("iad", "lhr"), edges: tuple[str, ...] = ()
) -> AsyncIterator[Running]:
    claim(home, Manifest(LAYOUT, APP, regions[0], regions))
    spec = GlobeSpec(
        home=home,
        regions=regions,
        edges=edges,
        near=regions[0],
        mode=NetworkMode.FLAT,
        why_mode="a test",
        rtt_factor=1.0,
        port=None,
        environ=dict(os.environ),
        envoy=Engines(os.environ).envoy(),
    )
    async with Globe(spec) as globe, FlyClient(globe.api_url, globe.token) as client:
        client.http._transport = Checked(client.http._transport)
        yield Running(globe, client, GlobeExtension(client))


def runs(code: str = WAITING, **more: object) -> MachineConfig:
    """A machine that runs a line of Python."""
    init = Init(exec=(sys.executable, "-I", "-S", "-c", code))
    return MachineConfig.model_validate({"image": "test", "init": init.to_wire(), **more})
