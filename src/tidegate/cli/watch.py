"""``tidegate status``, once or with ``--watch``: text, and sparklines of the open release."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tidegate.cli.base import say
from tidegate.cli.working import paint, spark

EVERY = 1.0
"""Seconds between two looks at the journal."""


def status_text(state: Path, document: Mapping[str, Any]) -> str:
    """The paragraphs, each open release with how its checks went."""
    from tidegate.journal import views

    text = views.status_text(dict(document))
    lines = []
    for line in text.splitlines():
        found = next((m for m in document["models"] if (m["release"] or {}).get("name", "\0") in line), None)
        lines.append(paint(line, found["release"]["state"]) if found and line.startswith("  release") else line)
        if found and line.startswith("  release") and document["at"] is None:
            lines += checks(state, found["model"], found["release"]["name"])
    return "\n".join(lines)


def checks(state: Path, model: str, release: str) -> Iterator[str]:
    """Of each check that has a margin its upper bound over the looks, and its newest figures."""
    from tidegate.console.reader import Reader
    from tidegate.console.shown import in_words

    for panel in Reader(state).release(model, release).panels:
        if panel.margin is not None and panel.proves:
            bars = spark([look.checks[panel.name]["upper"] for look in panel.looks])
            yield f"    {panel.title:24s} {bars} {in_words(panel.last)}"


def watch(state: Path, as_json: bool) -> None:
    """Until Ctrl-C: the status again whenever the journal grew; on a terminal in place, else one after the other."""
    from tidegate.journal import views
    from tidegate.journal.store import open_journal

    journal, known = open_journal(state), None
    show = _in_place if sys.stdout.isatty() and not as_json else _below
    with show() as put:
        while True:
            if (heads := journal.heads()) != known:
                known = heads
                document = views.status(state)
                put(document, as_json, "" if as_json else status_text(state, document))
            time.sleep(EVERY)


class _below:  # noqa: N801 - used as a function
    """Print what there is, one after the other."""

    def __enter__(self) -> Any:
        return self.put

    def put(self, document: Mapping[str, Any], as_json: bool, text: str) -> None:
        say(document, as_json, text)
        sys.stdout.flush()

    def __exit__(self, *_: object) -> None:
        pass


class _in_place:  # noqa: N801 - used as a function
    """Keep one screen up to date."""

    def __enter__(self) -> Any:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._text, self._live = Text, Live(console=Console(), auto_refresh=False, screen=False)
        self._live.__enter__()
        return self.put

    def put(self, document: Mapping[str, Any], as_json: bool, text: str) -> None:
        self._live.update(self._text.from_ansi(text), refresh=True)

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)
