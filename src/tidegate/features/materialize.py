"""Materialization: the newest data version's view rows into the live repo, offline and online. Does I/O.

For each view, what the live repo does not hold yet becomes one more Parquet file of its folder, with the time of this
run as ``created``; then the newest row of each key goes into the online store, with that time as the heartbeat, in one
transaction. A row never replaces a newer one that a stream brought. Killed anywhere and run again, it ends the same.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from tidegate.errors import UserError
from tidegate.features.live import LiveRepo, feeding, live_repo, offline_rows, open_store
from tidegate.features.online_write import newer_than_stored, write_online
from tidegate.features.windows import CREATED, Definition, build
from tidegate.ingest.disk import atomic_file, read_manifest, read_tables
from tidegate.ingest.stream_log import write_durably
from tidegate.version.checkout import checkout
from tidegate.version.history import versions
from tidegate.workload import load_workload

if TYPE_CHECKING:
    from feast import FeatureStore

    from tidegate.features.asof import AsofView


@dataclass(frozen=True)
class Materialized:
    """What was put where: rows that were new to the view's folder, and keys that were written online, by view."""

    version: str
    until: str
    offline: dict[str, int]
    online: dict[str, int]


def materialize(workload: str, state: Path) -> Materialized:
    """Bring the live repo of `workload` in `state` up to its newest data version.

    Raises UserError when there is no data version yet, or while a stream or another materialization feeds the repo.
    """
    known = load_workload(workload)
    live = live_repo(state, known, workload)
    found = versions(state)
    if not found:
        raise UserError(f"--state {state}", "no data version in it", "a state folder after `tidegate run`")
    offline, online = {}, {}
    with feeding(live), tempfile.TemporaryDirectory(dir=live.root, prefix=".version-") as made:
        checkout(found[-1], Path(made) / "valid")
        manifest = read_manifest(Path(made) / "valid")
        tables = read_tables(Path(made) / "valid", manifest)
        until = datetime.fromisoformat(manifest.until)
        store, now = open_store(live), datetime.now(UTC)
        for definition in known.definitions():
            name = definition.view.name
            offline[name] = add_offline(live, definition, tables, until, now)
            online[name] = _add_online(store, live, definition.view, until, now)
    return Materialized(found[-1].version, manifest.until, offline, online)


def run_component(workload: str, state: str, run: str, out: str) -> None:
    """`materialize` for a pipeline's component: the run and what was put where, as JSON in the file `out`."""
    done = {"run": run, **asdict(materialize(workload, Path(state)))}
    with atomic_file(Path(out)) as made:
        made.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")


def add_offline(
    live: LiveRepo, definition: Definition, tables: Mapping[str, pl.DataFrame], until: datetime, now: datetime
) -> int:
    """Write the view's rows up to `until` that the live repo does not hold, as created `now`; how many they were."""
    view = definition.view
    for unfinished in (live.views / view.name).glob(".*.new"):  # of a run that was killed
        unfinished.unlink()
    built = build(definition, tables).filter(pl.col(view.timestamp) <= until)
    columns = [*view.keys, view.timestamp, *view.features]
    there = standing(view, offline_rows(live, view)).select(columns)
    new = built.select(columns).join(there, on=columns, how="anti", nulls_equal=True)
    if not new.is_empty():
        stamped = new.with_columns(pl.lit(now).cast(pl.Datetime("us", "UTC")).alias(CREATED))
        write_durably(live.views / view.name / f"batch-{now.timestamp() * 1e6:.0f}.parquet", stamped)
    return new.height


def standing(view: AsofView, rows: pl.DataFrame) -> pl.DataFrame:
    """Of the rows of one key and instant the one created last; sorted by time."""
    ordered = rows.sort(view.timestamp, CREATED, nulls_last=False, maintain_order=True)
    return ordered.unique([*view.keys, view.timestamp], keep="last", maintain_order=True)


def _add_online(store: FeatureStore, live: LiveRepo, view: AsofView, until: datetime, now: datetime) -> int:
    """Write each key's newest row where the online store holds an older one or none; how many they were."""
    rows = standing(view, offline_rows(live, view)).filter(pl.col(view.timestamp) <= until)
    newest = rows.unique(view.keys, keep="last", maintain_order=True) if view.keys else rows.tail(1)
    wanted = newer_than_stored(live.online, live.project, view, newest.with_columns(pl.col(CREATED).fill_null(now)))
    write_online(store, view, wanted, now)
    target = store._get_feature_view(view.name, hide_dummy_entity=False)
    store.registry.apply_materialization(target, live.project, datetime.fromtimestamp(0, UTC), until)
    return wanted.height
