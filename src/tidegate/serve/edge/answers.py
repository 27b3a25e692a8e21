"""Answers of one installed bundle: precomputed ones from SQLite, the others by the model."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import PlatformError, TidegateError
from tidegate.serve.edge.asked import Asked, Value, entity, parse
from tidegate.serve.edge.bundle import FILES, Bundle, Manifest
from tidegate.serve.loaded import LoadedModel, load_checked
from tidegate.train.model_file import sha256_file

TABLE = "answers (asked BLOB PRIMARY KEY, score REAL NOT NULL, fallback TEXT, features TEXT NOT NULL) WITHOUT ROWID"
"""`asked`: the float32 bytes of an encoded row, or the text of `tidegate.serve.edge.asked.entity`; `features`: JSON."""


class UnknownKeyError(TidegateError):
    """An entity that was not precomputed: without the feature store only the head is answered by key."""


@dataclass(frozen=True)
class Row:
    """One answered row; `entity` where it was asked by key, `precomputed` where the model did not run."""

    score: float
    features: list[Value]
    precomputed: bool
    fallback: str | None = None
    entity: dict[str, str | None] | None = None


@dataclass(frozen=True)
class Serving:
    """A bundle that was proved: it answers until another one is put in its place."""

    manifest: Manifest
    model: LoadedModel
    _head: sqlite3.Connection = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def answer(self, body: bytes) -> list[Row]:
        """UserError for a fault of the request, UnknownKeyError, PlatformError when the model failed."""
        asked = parse(body, self.model.schema, self.manifest.fields)
        return self._by_key(asked) if asked.keys else self._by_rows(asked)

    def _by_rows(self, asked: Asked) -> list[Row]:
        encoded = self.model.schema.encode(asked.rows)
        found = self._look_up([row.tobytes() for row in encoded])
        missing = [index for index, one in enumerate(found) if one is None]
        scores = dict(zip(missing, self.model.score(encoded[missing]), strict=True)) if missing else {}
        return [
            Row(scores[index] if one is None else one[0], list(row.values()), one is not None)
            for index, (row, one) in enumerate(zip(asked.rows, found, strict=True))
        ]

    def _by_key(self, asked: Asked) -> list[Row]:
        fields = self.manifest.fields
        assert fields is not None  # noqa: S101 - the parser takes keys only then
        found = self._look_up([entity(fields, entry) for entry in asked.keys])
        rows = []
        for index, (entry, one) in enumerate(zip(asked.keys, found, strict=True)):
            if one is None:
                raise UnknownKeyError(f"keys[{index}]: not precomputed here; ask with rows (features)")
            keys = {name: None if entry[name] is None else str(entry[name]) for name in fields.keys}
            rows.append(Row(one[0], json.loads(one[2]), True, one[1], keys))
        return rows

    def _look_up(self, asked: list[Any]) -> list[tuple[float, str | None, str] | None]:
        query = "SELECT score, fallback, features FROM answers WHERE asked = ?"
        try:
            with self._lock:
                return [self._head.execute(query, (one,)).fetchone() for one in asked]
        except sqlite3.Error:
            return [None] * len(asked)  # a damaged head costs its speed, not the answer

    def close(self) -> None:
        """Close the head."""
        with self._lock:
            self._head.close()


def load(folder: Path, bundle: Bundle) -> Serving:
    """Check the files against the manifest, load them, and prove model and head; PlatformError says what is wrong."""
    for name in FILES:
        if sha256_file(folder / name) != bundle.manifest.files[name].sha256:
            raise PlatformError(f"{name}: not the file that was signed")
    model = load_checked(folder, bundle.manifest.digest)
    try:
        head = sqlite3.connect(f"file:{folder / 'head.db'}?mode=ro", uri=True, check_same_thread=False)
        head.execute("SELECT count(*) FROM answers").fetchone()
    except sqlite3.Error as error:
        raise PlatformError(f"head.db: {error}") from None
    serving = Serving(bundle.manifest, model, head)
    _prove_head(serving)
    return serving


def _prove_head(serving: Serving, most: int = 100) -> None:
    """The first precomputed answers are what the model gives."""
    query = "SELECT score, features FROM answers ORDER BY asked LIMIT ?"
    found = serving._head.execute(query, (most,)).fetchall()
    if not found:
        return
    names = serving.model.schema.names
    rows = [dict(zip(names, json.loads(features), strict=True)) for _, features in found]
    scores = serving.model.score(serving.model.schema.encode(rows))
    if not np.allclose(scores, [score for score, _ in found], rtol=0, atol=1e-6):
        raise PlatformError("head.db: precomputed answers are not the model's")
