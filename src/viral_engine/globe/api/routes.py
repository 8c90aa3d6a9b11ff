"""Every call of the Machines API that the globe serves."""

from __future__ import annotations

from starlette.routing import Route

from viral_engine.globe.api.apps import AppCalls
from viral_engine.globe.api.inside import InsideCalls
from viral_engine.globe.api.leases import LeaseCalls
from viral_engine.globe.api.machines import MachineCalls
from viral_engine.globe.api.settings import SettingsCalls
from viral_engine.globe.api.waits import WaitCalls
from viral_engine.globe.platform import Platform


def machines_api(platform: Platform) -> list[Route]:
    """The routes of the API over a platform; the globe's own calls are not among them."""
    rooms = (AppCalls, MachineCalls, InsideCalls, WaitCalls, LeaseCalls, SettingsCalls)
    return [route for calls in rooms for route in calls(platform).routes()]
