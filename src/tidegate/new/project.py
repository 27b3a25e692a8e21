"""A new workload on disk: refused before anything is written, written as a whole or not at all. Does I/O."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tidegate
from tidegate.errors import UserError
from tidegate.ingest.files import Files
from tidegate.ingest.sources import Unreadable
from tidegate.new.propose import Proposal, Roles, propose
from tidegate.new.render import history_features, model_name, render

if TYPE_CHECKING:
    import polars as pl

PACKAGE = "pipelines/continuous_training.yaml"


@dataclass(frozen=True)
class Written:
    """What `create` made: the proposal, its files from the project's folder `into`, and what was left out of it."""

    made: Proposal
    into: Path
    files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The outcome as a JSON document."""
        made = self.made
        return {
            "name": made.name,
            "into": str(self.into),
            "files": list(self.files),
            "model": f"k8s/models/{model_name(made.name)}.yaml",
            "rows": made.rows,
            "labelled": made.labelled,
            "positive": made.positive,
            "share": round(made.share, 4),
            "since": made.since.isoformat(),
            "until": made.until.isoformat(),
            "features": [*(one.name for one in made.features), *history_features(made)],
            "left_out": {one.raw: one.why_not for one in made.others if one.why_not},
            "first_until": made.first_until.strftime("%Y-%m-%d"),
            "next": self.next(),
        }

    def next(self) -> list[str]:
        """The commands that take it from here to a released version, in the project's folder."""
        made, model = self.made, f"k8s/models/{model_name(self.made.name)}.yaml"
        first, last = made.first_until.strftime("%Y-%m-%d"), made.until.strftime("%Y-%m-%d")
        return [
            f"pytest tests/unit/{made.name}",
            f"tidegate run {model} --until {first}",
            f"tidegate up {model} --clock events",
            f"tidegate serve traffic {model} --since {first} --until {last}",
        ]

    def to_text(self) -> str:
        """The outcome for the terminal."""
        told = self.to_json()
        left = [f"  left out: {raw} ({why})" for raw, why in told["left_out"].items()]
        return "\n".join(
            [
                f"{told['name']}: {told['rows']} rows, {told['since'][:10]} to {told['until'][:10]}, "
                f"{told['share']:.0%} of the {told['labelled']} labelled ones have {self.made.label} = "
                f"{told['positive']}, which is what is predicted",
                f"  {len(told['features'])} features, {len(history_features(self.made))} of them windows of "
                f"{self.made.window.days} days over what was known by then",
                *left,
                *(f"  {path}" for path in self.files),
                f"next, in {self.into}:",
                *(f"  {command}" for command in told["next"]),
            ]
        )


def create(name: str, file: Path, roles: Roles, into: Path) -> Written:
    """Write a workload `name` made of the columns of `file` into the project folder `into`.

    The file is copied to ``data/<name>/``, unless it lies there. Raises UserError in one line, and writes nothing,
    where a file is there already, the name cannot be one, or the rows are no workload.
    """
    _check_name(name, into)
    raw = read(file)
    made = propose(name, raw, roles, str(file), datetime.now(UTC))
    texts = render(made, file.name)
    if clash := sorted({*history_features(made)} & {one.name for one in made.others}):
        raise UserError(f"{file}: column {clash[0]}", clash[0], "another name: a window's feature has this one")
    if not (into / PACKAGE).is_file():
        texts[PACKAGE] = _package().read_text(encoding="utf-8")
    data = None if file.resolve().parent == (into / "data" / name).resolve() else (f"data/{name}/{file.name}", file)
    _check_free(into, [f"src/{name}", f"tests/unit/{name}", *texts, *([f"data/{name}"] if data else [])])
    _write(into, texts, data)
    return Written(made, into, tuple(sorted(texts)))


def read(file: Path) -> pl.DataFrame:
    """The file's rows as ingest reads them, a CSV's all as text."""
    if file.suffix not in (".csv", ".parquet") or not file.is_file():
        raise UserError("--from", str(file), "a CSV or Parquet file: NAME.csv or NAME.parquet")
    (part,) = Files({"rows": str(file)}).parts()
    try:
        rows = part.read()
    except Unreadable as error:
        raise UserError("--from", str(file), f"a readable file: {error}") from None
    if rows.width != len({*rows.columns}) or not rows.width:
        raise UserError("--from", str(file), "columns with names that differ")
    return rows


def _check_name(name: str, into: Path) -> None:
    takes = "a Python package's name: small letters, digits and underscores"
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}[a-z0-9]", name) or keyword.iskeyword(name):
        raise UserError("NAME", name, takes)
    if into.exists() and not into.is_dir():
        raise UserError("--into", str(into), "a folder")
    found = importlib.util.find_spec(name)
    if found is not None and not (into / "src" / name).exists():
        raise UserError("NAME", name, f"a name that no package has; {found.origin or 'one'} is there")


def _check_free(into: Path, places: list[str]) -> None:
    for place in places:
        if (into / place).exists():
            raise UserError(str(into / place), "there already", "a name that nothing has yet; nothing was written")


def _package() -> Path:
    """The compiled pipeline of the clone that this is."""
    found = Path(tidegate.__file__).resolve().parents[2] / PACKAGE
    if not found.is_file():
        raise UserError(PACKAGE, "not there", "the compiled pipeline of a clone of Tidegate, in the project's folder")
    return found


def _write(into: Path, texts: Mapping[str, str], data: tuple[str, Path] | None) -> None:
    """Every file beside its place first, then each to its place; what was moved is taken back when one does not go."""
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".new-") as made:
            for path, text in texts.items():
                _parent(Path(made) / path).write_text(text, encoding="utf-8")
            if data is not None:
                shutil.copyfile(data[1], _parent(Path(made) / data[0]))
            _move(Path(made), into, [*texts, *([data[0]] if data else [])])
    except OSError as error:
        raise UserError("--into", str(into), f"a folder that can be written ({error.strerror})") from None


def _move(made: Path, into: Path, paths: list[str]) -> None:
    moved: list[Path] = []
    try:
        for path in paths:
            (made / path).rename(_parent(into / path))
            moved.append(into / path)
    except OSError:
        for place in moved:
            place.unlink()
        raise


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
