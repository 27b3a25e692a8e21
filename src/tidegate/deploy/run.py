"""One deployment: dry run and diff, apply, wait for health, or back to what was there. Does I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.deploy.changes import Change, Key, by_key, change, key_of, known, serving_image, undo, waves
from tidegate.deploy.health import Health, health, serves
from tidegate.deploy.kubectl import Json, Server
from tidegate.errors import PlatformError

LOOK = 2.0
"""Seconds between two looks at the health."""
VERSIONS = "tidegate.dev/version"
"""Label of what a model version is made of."""


@dataclass
class Done:
    """What became of it: `changes` in the order of the objects, `waiting` what was not healthy at the end.

    `applied` is False after a dry run; `trouble` is why it was undone, empty where it was not.
    """

    changes: list[Change] = field(default_factory=list)
    applied: bool = False
    trouble: str = ""
    waiting: dict[str, str] = field(default_factory=dict)
    undone: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    healthy_again: bool | None = None

    @property
    def ok(self) -> bool:
        """Whether what was asked for is there and healthy, or was only looked at."""
        return not self.trouble

    def to_json(self) -> dict[str, Any]:
        """The document that ``tidegate deploy --json`` prints."""
        changes = [{"object": str(one.key), "change": one.what, "diff": list(one.lines)} for one in self.changes]
        return {
            "ok": self.ok,
            "applied": self.applied,
            "changes": changes,
            "trouble": self.trouble,
            "waiting": self.waiting,
            "rolled_back": bool(self.trouble and self.applied),
            "undone": self.undone,
            "kept": self.kept,
            "healthy_again": self.healthy_again,
        }


class Deployment:
    """Brings `objects` to a server and keeps what it had before. `say` is told what happens, line by line.

    `timeout`: seconds within which everything has to be healthy, and once more after going back.
    """

    def __init__(self, server: Server, objects: Sequence[Json], timeout: float, say: Callable[[str], None]) -> None:
        self._server, self._waves, self._timeout, self._say = server, waves(objects), timeout, say
        self._first = by_key(self._waves[0])
        self._before: dict[Key, Json] = {}
        self._read: list[Json] = []
        """What was read before it was applied, in order: the objects to bring back."""
        self.done = Done()

    def run(self, only_look: bool) -> Done:
        """Dry run of all that can be asked now; unless `only_look`, the deployment itself.

        Raises PlatformError where the server refuses in the dry run: nothing was changed then.
        """
        live = by_key(self._server.get(self._waves[0]))
        self._look(self._waves[0])
        as_wanted = {one.key: live[one.key] for one in self.done.changes if one.what == "same" and one.key in live}
        spaces = {key: one for key, one in live.items() if key.kind == "Namespace"}
        rest = [one for wave in self._waves[1:] for one in wave]
        later = [one for one in rest if not known(one, self._first, as_wanted | spaces)]
        self._look([one for one in rest if one not in later])
        if only_look:
            for one in later:
                self._note(Change(key_of(one), "later"))
            return self.done
        self.done.applied = True
        try:
            self._carry_out(later)
        except KeyboardInterrupt:
            self._say("interrupted; going back")
            self._go_back(wait=False)
            raise
        except PlatformError as error:
            self.done.trouble = str(error)
        if self.done.trouble:
            self._say(f"{self.done.trouble}; going back")
            self._go_back(wait=True)
        return self.done

    def _carry_out(self, later: Sequence[Json]) -> None:
        """Wave by wave, then wait; `done.trouble` says what did not become healthy."""
        for number, wave in enumerate(self._waves):
            asked = [one for one in wave if one in later]
            before = by_key(self._server.get(wave))
            self._before |= before
            self._read += wave
            self._look(asked)  # their definition or namespace is as they need it only now
            self._server.apply([one for one in wave if not _is_kept_job(one, before)], dry=False)
            # a Model may ask for what only the new operator knows
            if number < len(self._waves) - 1 and not self._wait(wave):
                return
        self._wait(self._read)

    def _look(self, objects: Sequence[Json]) -> None:
        """Dry run and diff of what the server knows."""
        before = by_key(self._server.get(objects))
        asked = [one for one in objects if not _is_kept_job(one, before)]
        after = by_key(self._server.apply(asked, dry=True))
        for key, one in by_key(objects).items():
            self._note(change(before.get(key), after.get(key) or before.get(key) or one))

    def _note(self, found: Change) -> None:
        self.done.changes.append(found)
        if found.what != "same":
            self._say(f"{found.what}: {found.key}")
        for line in found.lines[2:]:
            self._say(f"  {line}")

    def _wait(self, objects: Sequence[Json], *, give_up: bool = True) -> bool:
        """Whether everything became healthy in time; what did not is in `done`.

        give_up: not waited on when something has failed for good.
        """
        deadline = time.monotonic() + self._timeout
        while found := self._unhealthy(objects):
            failed = [name for name, one in found.items() if one.state == "failed"] if give_up else []
            self.done.waiting = {name: one.why for name, one in found.items()}
            if failed or time.monotonic() > deadline:
                name = (failed or list(found))[0]
                how = "failed" if failed else f"not healthy after {self._timeout:.0f} s"
                self.done.trouble = self.done.trouble or f"{how}: {name}: {found[name].why}"
                return False
            time.sleep(LOOK)
        self.done.waiting = {}
        return True

    def _unhealthy(self, objects: Sequence[Json]) -> dict[str, Health]:
        """What is not healthy now, by its name."""
        try:
            return self._look_at(objects)
        except PlatformError as error:  # a restart of the API server is no verdict
            return {"API server": Health("waiting", str(error))}

    def _look_at(self, objects: Sequence[Json]) -> dict[str, Health]:
        now = by_key(self._server.get(objects))
        found = {str(key): health(now.get(key)) for key in by_key(objects)}
        operators = [one for one in now.values() if one["kind"] == "Deployment" and serving_image([one])]
        for one in operators:
            image, space = serving_image([one]), one["metadata"]["namespace"]
            for version in self._server.labelled("deployments", space, VERSIONS):
                found[str(key_of(version))] = serves(version, image)
        return {name: one for name, one in found.items() if one.state != "healthy"}

    def _go_back(self, wait: bool) -> None:
        """Bring back what was there: last wave first. What cannot be brought back is told."""
        for wave in reversed(self._waves):
            mine = [one for one in wave if one in self._read]
            try:
                self._undo(mine)
            except PlatformError as error:
                self._say(f"not undone: {error}")
                self.done.trouble += f"; not undone: {error}"
        if wait:
            waiting = self.done.waiting
            self.done.healthy_again = self._wait(
                [one for one in self._read if key_of(one) in self._before], give_up=False
            )
            self.done.waiting = waiting

    def _undo(self, objects: Sequence[Json]) -> None:
        now = by_key(self._server.get(objects))
        found = [undo(self._before.get(key), now.get(key)) for key in by_key(objects)]
        steps = [one for one in found if one is not None]
        self._server.delete([one for verb, one in reversed(steps) if verb == "delete"])
        self._server.apply([one for verb, one in steps if verb == "apply"], dry=False)
        self.done.undone += [str(key_of(one)) for verb, one in steps if verb != "keep"]
        self.done.kept += [str(key_of(one)) for verb, one in steps if verb == "keep"]


def _is_kept_job(one: Json, live: dict[Key, Json]) -> bool:
    """A Job that is there is left as it is: the pods of a Job cannot be changed."""
    return one["kind"] == "Job" and key_of(one) in live
