"""From one bundle to the next: look, check, fetch, prove, switch; whatever fails, the old one goes on answering."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass

from tidegate.errors import PlatformError, TidegateError
from tidegate.serve.edge.answers import Serving, load
from tidegate.serve.edge.bundle import MOST_BYTES, SAME, UNLISTED, Bundle, age, parse_bundle, why_not
from tidegate.serve.edge.installed import Installed
from tidegate.serve.edge.kept import Kept
from tidegate.serve.edge.source import FolderSource, Source, fetch

_FLOOR, _NEWEST = "floor", "newest time"


@dataclass(frozen=True)
class Look:
    """How the last look for an update ended, and when (seconds)."""

    outcome: str
    at: float


class Edge:
    """What answers now, and how it is replaced. `serving` is read by requests while `look` runs in another thread."""

    def __init__(self, installed: Installed, kept: Kept) -> None:
        self.installed, self.kept = installed, kept
        self._refused: set[str] = set()
        self._looking = threading.Lock()
        self.last: Look | None = None
        found = installed.load()
        built = FolderSource(installed.folder / "bundle")
        if found is None:
            found = self._first(built)
        self.serving = found
        kept.note(_FLOOR, found.manifest.sequence)
        self.look(built)
        self.last = None

    def look(self, source: Source) -> str:
        """Take what `source` offers, if it may be taken; returns (and remembers) one clause about how it ended."""
        with self._looking:
            self._newest = self.kept.note(_NEWEST, time.time())
            try:
                outcome = self._look(source)
            except (OSError, http.client.HTTPException) as error:
                outcome = f"not reached: {error}"
            except TidegateError as error:
                outcome = f"refused: {error}"
            self.last = Look(outcome, time.time())
            return outcome

    def age(self, now: float) -> float:
        """Seconds since what answers was made."""
        return age(self.serving.manifest, now, self._newest)

    def _look(self, source: Source) -> str:
        offered = _offered(source)
        before = self.serving
        reason = why_not(offered, before.manifest, int(self.kept.fact(_FLOOR)), self._refused)
        if reason:
            return reason if reason == SAME else f"refused: {reason}"
        self._take(offered, source, before.manifest.keys)
        return f"installed {offered.manifest.version}, bundle {offered.manifest.sequence}"

    def _take(self, offered: Bundle, source: Source, keys: tuple[str, ...]) -> None:
        """Fetch and prove; only then switch. A bundle that does not prove itself is not tried again."""
        files = {n: fetch(source, one, self.installed.incoming) for n, one in offered.manifest.files.items()}
        folder = self.installed.put(offered, files, keys)
        try:
            new = load(folder, offered)
        except TidegateError:
            self._refused.add(offered.name)
            self.installed.remove(folder)
            raise
        self.kept.note(_FLOOR, offered.manifest.sequence)
        self.installed.switch(folder)
        self.serving = new

    def _first(self, built: Source) -> Serving:
        """The bundle that the folder came with."""
        keys = self.installed.trust
        try:
            offered = _offered(built)
            files = {n: fetch(built, one, self.installed.incoming) for n, one in offered.manifest.files.items()}
        except OSError as error:
            raise PlatformError(f"{self.installed.folder / 'bundle'}: {error}") from None
        if not offered.signed_by(keys):
            raise PlatformError(f"{self.installed.folder / 'bundle'}: {UNLISTED}")
        folder = self.installed.put(offered, files, keys)
        found = load(folder, offered)
        self.installed.switch(folder)
        return found


def _offered(source: Source) -> Bundle:
    content = source.bundle()
    if len(content) > MOST_BYTES:
        raise PlatformError(f"bundle.json: over {MOST_BYTES} bytes")
    return parse_bundle(content)
