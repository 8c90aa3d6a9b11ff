"""``python -m viral_engine.nodes.etcd_rebuild TASK``: an etcd member of a cluster that was rebuilt.

When a majority of members is lost for good, an operator names one that survived. That one starts
alone, once, with all that it knows; the others forget what they knew and join it, first as
learners, which count for no majority until they have caught up. Whatever is interrupted is done
again by the next start; once done, etcd starts as always.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from viral_engine.clock import wait_until
from viral_engine.cluster.wire import Reply, UnreachableError, call
from viral_engine.errors import OperationError, WaitTimeoutError
from viral_engine.nodes import kernel

__all__ = ["RebuildTask", "main"]

ALONE_WITHIN = timedelta(seconds=30)
ASK_EVERY = timedelta(milliseconds=300)
STEP_LIMIT = timedelta(seconds=3)
STOP_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class RebuildTask:
    """What a member has to do: ``command`` starts etcd as always.

    ``survivor`` is where the survivor serves clients, and None for the survivor itself;
    ``alone`` is where that one listens while it forgets the others.
    """

    command: tuple[str, ...]
    folder: str
    generation: str
    name: str
    peer_url: str
    survivor: str | None
    alone: str

    def text(self) -> str:
        """Return it as an argument of the program."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def parse(cls, text: str) -> RebuildTask:
        """Read what ``text`` wrote."""
        raw = json.loads(text)
        return cls(**(raw | {"command": tuple(raw["command"])}))

    @property
    def marker(self) -> Path:
        """The file that says which rebuilding this member has been through, and how far."""
        return Path(f"{self.folder}-generation")

    def reached(self) -> str:
        """Return ``joining`` or ``done`` for this generation, and nothing for any other."""
        try:
            generation, _, reached = self.marker.read_text(encoding="utf-8").partition(" ")
        except OSError:
            return ""
        return reached if generation == self.generation else ""

    def note(self, reached: str) -> None:
        """Remember how far it went."""
        draft = self.marker.with_suffix(".draft")
        draft.write_text(f"{self.generation} {reached}", encoding="utf-8")
        draft.replace(self.marker)


def main(text: str) -> int:
    """Do what is left to do, then be etcd; return its exit code where it could not become it."""
    task = RebuildTask.parse(text)
    if task.reached() != "done":
        if task.survivor is not None:
            return asyncio.run(_join(task, task.survivor))
        if (Path(task.folder) / "member").exists():
            asyncio.run(_start_alone(task))
        task.note("done")
    return _become(task.command)


def _become(command: tuple[str, ...]) -> NoReturn:
    os.execv(command[0], command)


async def _start_alone(task: RebuildTask) -> None:
    """Run etcd until it has forgotten the other members and leads itself, where nobody asks it."""
    _say("etcd starts alone: the other members are forgotten")
    alone = ("--force-new-cluster", f"--listen-client-urls={task.alone}",
             f"--advertise-client-urls={task.alone}")  # fmt: skip
    process = await _spawn(*task.command, *alone)
    try:
        await wait_until(
            lambda: _leads(task.alone), timeout=ALONE_WITHIN, interval=ASK_EVERY,
            waiting_for="etcd to lead itself",
        )  # fmt: skip
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), STOP_LIMIT_S)


async def _leads(url: str) -> bool:
    try:
        reply = await call(f"{url}/v3/maintenance/status", {}, timeout=STEP_LIMIT)
    except UnreachableError:
        return False
    header = reply.field("header")
    own = header.get("member_id") if isinstance(header, dict) else None
    return own is not None and reply.field("leader") == own


async def _join(task: RebuildTask, survivor: str) -> int:
    """Forget what was known, join as a learner, and run etcd; become a voter once caught up."""
    members = await _members(survivor)
    mine = next((one for one in members if task.peer_url in one.get("peerURLs", ())), None)
    if mine is None or task.reached() != "joining":
        shutil.rmtree(task.folder, ignore_errors=True)
        if mine is not None:
            await _told(survivor, "remove", {"ID": mine["ID"]})
        await _told(survivor, "add", {"peerURLs": [task.peer_url], "isLearner": True})
        task.note("joining")
        members = await _members(survivor)
    others = [f"{one['name']}={one['peerURLs'][0]}" for one in members if one.get("name")]
    everyone = ",".join([*others, f"{task.name}={task.peer_url}"])
    process = await _spawn(
        *task.command, "--initial-cluster-state=existing", f"--initial-cluster={everyone}"
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.terminate)
    promoting = asyncio.create_task(_promote(task, survivor))
    code = await process.wait()
    promoting.cancel()
    return code


async def _promote(task: RebuildTask, survivor: str) -> None:
    while True:
        await asyncio.sleep(ASK_EVERY.total_seconds())
        try:
            members = await _members(survivor)
            mine = [one for one in members if task.peer_url in one.get("peerURLs", ())]
            if not mine:
                continue  # taken out again: an operator has to say what it is to be
            if not mine[0].get("isLearner"):
                task.note("done")
                _say("etcd votes again")
                return
            await _told(survivor, "promote", {"ID": mine[0]["ID"]})
        except OperationError:
            continue  # it has not caught up yet, or nobody answers: asked again


async def _members(survivor: str) -> list[dict[str, Any]]:
    reply = await _told(survivor, "list", {"linearizable": True})
    members = reply.field("members")
    return members if isinstance(members, list) else []


async def _told(survivor: str, verb: str, body: dict[str, Any]) -> Reply:
    try:
        reply = await call(f"{survivor}/v3/cluster/member/{verb}", body, timeout=STEP_LIMIT)
    except UnreachableError as error:
        raise OperationError(f"the rebuilt etcd does not answer: {error}") from error
    if reply.status != 200:
        raise OperationError(f"etcd refuses to {verb}: {reply.field('message') or reply.body}")
    return reply


async def _spawn(*command: str) -> asyncio.subprocess.Process:
    parent = os.getpid()
    return await asyncio.create_subprocess_exec(
        # Safe after fork: it makes two system calls and takes no lock.
        *command, preexec_fn=lambda: kernel.die_with_parent(parent),
    )  # fmt: skip


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except (OperationError, WaitTimeoutError) as failure:
        sys.stdout.write(f"{failure.message}\n")
        sys.exit(1)
