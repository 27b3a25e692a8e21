"""What the console's pages read: the journal in parts, and the state folder. Does I/O; writes nothing.

The first page's line of each model is kept as long as the model's journal has not grown; a thread brings all of them up
to date, so that a page waits for no more than the models that it shows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tidegate.console.story import Story, has_release, tell
from tidegate.console.summary import Summary, in_order, matches, slim, summarize, unread
from tidegate.errors import TidegateError, UserError
from tidegate.journal import browse
from tidegate.journal.events import Event
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import Journal, open_journal

logger = logging.getLogger(__name__)

FRESH = 0.5
"""Seconds for which what the journal's heads are is not asked again, by however many readers."""
PATIENCE = 0.04
"""Seconds in which the lines of one page are read; the rest of them comes with the next page."""
BREATH = 0.001
MOST_LOOKS = 240
"""Looks of a release that are read; of more, so many evenly spread."""
MOST_POINTS = 1200
"""Evaluations at midnights that are read, the newest ones: about three a day."""
DAY = 86400.0
RELEASE_KINDS = tuple(
    f"release.{what}"
    for what in ("opened", "looked", "stage", "promoted", "aborted", "rolled_back", "ended", "command")
)
"""Events that carry a release."""


class Reader:
    """Reads one journal; `folder_of` gives the state folder of a model's own files."""

    def __init__(self, folder: Path, folder_of: Callable[[str], Path] | None = None) -> None:
        self.folder = folder
        self.folder_of = folder_of or (lambda model: folder)
        self._journal: Journal | None = None
        self._known: dict[str, Summary] = {}
        self._states: dict[str, ModelState] = {}
        self._heads: tuple[float, Mapping[str, int]] = (-1e9, {})
        self._reading = threading.Lock()
        self._lock = threading.Lock()

    @property
    def journal(self) -> Journal:
        """The journal, opened when it is first asked for."""
        if self._journal is None:
            self._journal = open_journal(self.folder)
        return self._journal

    # --- models -----------------------------------------------------------------------------------------------------

    def heads(self) -> Mapping[str, int]:
        """The number of each model's newest event, at most `FRESH` seconds old."""
        with self._lock:
            at, found = self._heads
            if time.monotonic() - at > FRESH:
                found = self.journal.heads()
                self._heads = (time.monotonic(), found)
            return found

    def state(self, model: str, at: float | None = None) -> ModelState:
        """A model as its journal tells it, or told it at an event time, without what only looks tell.

        UserError for a model that has no journal.
        """
        return fold(self.turning(model, at), ModelState(model=model))

    def turning(self, model: str, at: float | None = None) -> list[Event]:
        """See `browse.turning`; UserError for a model that has no journal."""
        self._must_have(model)
        upto = None if at is None else browse.last_by(self.journal, model, at)
        return browse.turning(self.journal, model, upto=upto)

    def _must_have(self, model: str) -> None:
        if model not in self.heads():
            raise UserError("model", model, "one that the journal has")

    def overview(self, words: str, health: str, first: int, count: int) -> tuple[list[Summary], int, int]:
        """(lines, how many models there are like that, how many were not read yet) from number `first` on.

        Those that need a person come first. Before all were read they are by name, no health is known of them, and
        what cannot be read within `PATIENCE` is `unread`.
        """
        heads = self.heads()
        stale = [name for name, seq in heads.items() if name not in self._known or self._known[name].seq != seq]
        unread_ = sum(name not in self._known for name in stale)
        if unread_:
            named = self.named(words)
            shown = named[first : first + count]
            lines = self._at_once(shown)
            self._bring_up_behind([*shown, *stale])  # now: it would take turns with this page
            return lines, len(named), unread_
        if len(stale) > count:
            self._bring_up_behind(stale)
        else:
            self._bring_up(stale)
        found = in_order(one for name in heads if matches(one := self._known[name], words, health))
        return self._at_once([one.model for one in found[first : first + count]]), len(found), 0

    def named(self, words: str) -> list[str]:
        """The models in whose name all words are, by name."""
        return [name for name in sorted(self.heads()) if all(word in name for word in words.lower().split())]

    def every(self) -> list[Summary]:
        """The line of each model, however long it takes."""
        self._bring_up(list(self.heads()))
        return [self._known[name] for name in self.heads()]

    def _at_once(self, names: Sequence[str]) -> list[Summary]:
        """Their lines; past `PATIENCE` as they were last known."""
        ends, heads = time.monotonic() + PATIENCE, self.heads()
        return [
            self._line(name, heads[name]) if time.monotonic() < ends else self._known.get(name) or unread(name)
            for name in names
        ]

    def _line(self, name: str, seq: int) -> Summary:
        known = self._known.get(name)
        if known is None or known.seq < seq:
            state = self._further(name)
            self._states[name] = slim(state)
            known = self._known[name] = summarize(state)
        return known

    def _further(self, name: str) -> ModelState:
        """The state of a model, from where it was last known."""
        if known := self._states.get(name):
            try:
                return fold(browse.turning(self.journal, name, known.seq), known)
            except KeyError:  # a run that was left out
                pass
        return fold(browse.turning(self.journal, name), ModelState(model=name))

    def _bring_up(self, names: Sequence[str]) -> None:
        heads = self.heads()
        for name in names:
            self._line(name, heads[name])

    def _bring_up_behind(self, names: Sequence[str]) -> None:
        """The same in a thread of its own, one at a time."""
        if self._reading.acquire(blocking=False):
            threading.Thread(target=self._read_all, args=(names,), name="console", daemon=True).start()

    def _read_all(self, names: Sequence[str]) -> None:
        try:
            for name in names:
                self._bring_up([name])
                time.sleep(BREATH)  # whoever waits for a page goes first
        except TidegateError as error:
            logger.warning("%s", error)
        finally:
            self._reading.release()

    def counts(self) -> Mapping[str, int]:
        """How many of the models that were read are of each health."""
        found: dict[str, int] = {}
        for one in list(self._known.values()):
            found[one.health] = found.get(one.health, 0) + 1
        return found

    # --- one model --------------------------------------------------------------------------------------------------

    def release(self, model: str, name: str) -> Story:
        """A release's story; of many looks some, evenly spread. UserError for one that the journal does not have."""
        self._must_have(model)
        starts = browse.places(self.journal, model, ["release.opened"])
        opened = browse.events(self.journal, model, [place.seq for place in starts])
        number = next((i for i, e in enumerate(opened) if e.data["release"]["name"] == name), None)
        if number is None:
            raise UserError("release", name, f"one of {model}")
        begun = opened[number].seq
        ends = opened[number + 1].seq - 1 if number + 1 < len(opened) else None
        found = browse.places(self.journal, model, RELEASE_KINDS, begun - 1, ends)
        looks = [place.seq for place in found if place.kind == "release.looked"]
        others = [place.seq for place in found if place.kind != "release.looked"]
        events = browse.events(self.journal, model, sorted({*_spread(looks, MOST_LOOKS), *others}))
        return tell([event for event in events if _is_of(event, name)])

    def looks(self, model: str) -> list[Event]:
        """What the policy was told at midnights, when the champion's performance and drift are looked at."""
        places = browse.places(self.journal, model, ["trigger.evaluated"])
        at = [place.seq for place in places if place.time % DAY == 0][-MOST_POINTS:]
        return browse.events(self.journal, model, at)

    def page(self, asked: browse.Asked, before: browse.Key | None, limit: int) -> list[Event]:
        """See `browse.page`."""
        return browse.page(self.journal, asked, before, limit)


def _is_of(event: Event, name: str) -> bool:
    return has_release(event) and event.data["release"]["name"] == name


def _spread(seqs: Sequence[int], most: int) -> list[int]:
    """At most `most` of them, the first and the last among them."""
    if len(seqs) <= most:
        return list(seqs)
    return [seqs[round(i * (len(seqs) - 1) / (most - 1))] for i in range(most)]
