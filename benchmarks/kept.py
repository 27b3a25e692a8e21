"""Work in many equal pieces on every core; what was done is kept, so that a report that was interrupted goes on.

Pieces are kept in the user's cache, one JSON line each, by the digest of the code that does them.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import track

from benchmarks.results import CACHE


class Piece(Protocol):
    """One piece of the work."""

    @property
    def key(self) -> str:
        """One text a piece."""


P = TypeVar("P", bound=Piece)


def done(
    what: str, pieces: Iterable[P], work: Callable[[P], dict[str, Any]], code: Iterable[Path]
) -> dict[P, dict[str, Any]]:
    """Each piece's answer. `work` is a function of a module, `code` the files on which the answers depend."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(code))).hexdigest()[:12]
    kept = CACHE / "benchmarks" / f"{what}-{digest}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    wanted = {piece.key: piece for piece in pieces}
    found = {key: answer for key, answer in _read(kept) if key in wanted}
    todo = [(work, piece) for key, piece in wanted.items() if key not in found]
    with kept.open("a") as out, multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        answers = pool.imap_unordered(_answer, todo, chunksize=max(1, min(8, len(todo) // 50)))
        for key, answer in track(answers, what, len(todo), console=Console(stderr=True)):
            found[key] = answer
            out.write(json.dumps([key, answer]) + "\n")
            out.flush()
    return {piece: found[key] for key, piece in wanted.items()}


def _answer(asked: tuple[Callable[[P], dict[str, Any]], P]) -> tuple[str, dict[str, Any]]:
    work, piece = asked
    return piece.key, work(piece)


def _read(kept: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Whole lines; a killed process may have left half of one, which is cut off."""
    if not kept.exists():
        return
    text = kept.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        os.truncate(kept, len(whole))
    for line in whole.splitlines():
        yield json.loads(line)
