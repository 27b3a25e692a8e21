"""The live Feast repo of a state folder: a copy of the workload's, applied, beside the rows that it is fed. Does I/O.

``STATE/features/<repo>`` is the copy, ``STATE/features/data`` its registry, online store and view folders. One process
at a time feeds it, and holds `feeding` while it does.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tidegate.errors import UserError
from tidegate.features import feast_repo
from tidegate.features.asof import INSTANT
from tidegate.features.online_write import let_readers_pass
from tidegate.features.windows import CREATED

if TYPE_CHECKING:
    import polars as pl
    from feast import FeatureStore

    from tidegate.features.asof import AsofView
    from tidegate.workload import Workload


@dataclass(frozen=True)
class LiveRepo:
    """Where everything is. `source`: the workload's own repo folder; `online`: the SQLite file of its store."""

    source: Path
    folder: Path
    project: str
    online: Path

    @property
    def root(self) -> Path:
        """``STATE/features``."""
        return self.folder.parent

    @property
    def views(self) -> Path:
        """One folder of Parquet files a view."""
        return self.root / "data" / "views"


def live_repo(state: Path, known: Workload, workload: str) -> LiveRepo:
    """Where the live repo of the workload named `workload` is in `state`; nothing is made.

    UserError when its online store is another than SQLite: serving reads no other by key.
    """
    source = feast_repo.find_repo(known.feature_repo, workload.partition(":")[0])
    settings = yaml.safe_load((source / "feature_store.yaml").read_text(encoding="utf-8"))
    store = settings.get("online_store") or {}
    if store.get("type") != "sqlite" or "path" not in store:
        raise UserError(f"{source / 'feature_store.yaml'}: online_store", store, "{type: sqlite, path: FILE}")
    folder = state.resolve() / "features" / source.name
    return LiveRepo(source, folder, str(settings["project"]), (folder / store["path"]).resolve())


def open_store(live: LiveRepo) -> FeatureStore:
    """Copy the repo, apply it, and let readers pass its writers; what was fed stays."""
    with feast_repo.quick_import():
        from feast import FeatureStore

    ignored = shutil.ignore_patterns("__pycache__", "data")
    shutil.copytree(live.source, live.folder, ignore=ignored, dirs_exist_ok=True)
    live.online.parent.mkdir(parents=True, exist_ok=True)
    store = FeatureStore(repo_path=str(live.folder))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "On demand feature view is an experimental", RuntimeWarning)
        store.apply(feast_repo.load_objects(live.folder))
    let_readers_pass(live.online)
    return store


@contextlib.contextmanager
def feeding(live: LiveRepo) -> Iterator[None]:
    """Hold the live repo for this process; UserError when another one feeds it.

    The lock goes with the process, also when it is killed.
    """
    live.root.mkdir(parents=True, exist_ok=True)
    with (live.root / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            takes = "a live repo that no stream and no other materialization feeds"
            raise UserError(str(live.root), "fed by another process", takes) from None
        yield


def offline_rows(live: LiveRepo, view: AsofView) -> pl.DataFrame:
    """A view's offline rows, all files of its folder; without rows where there is none yet."""
    import polars as pl

    folder = live.views / view.name
    files = [path for path in sorted(folder.rglob("*.parquet")) if not _hidden(path.relative_to(folder))]
    parts = [pl.read_parquet(path) for path in files]
    columns = [*view.keys, view.timestamp, *view.features, CREATED]
    times = {view.timestamp: INSTANT, CREATED: INSTANT}
    if parts:
        return pl.concat([part.select(columns).cast(times) for part in parts], how="vertical_relaxed")  # type: ignore[arg-type]
    kinds: dict[str, Any] = dict.fromkeys(view.keys, pl.String) | dict.fromkeys(view.features, pl.Float32)
    return pl.DataFrame(schema=kinds | times).select(columns)


def _hidden(path: Path) -> bool:
    """Whether it is what a writer has not finished."""
    return any(part.startswith(".") for part in path.parts)
