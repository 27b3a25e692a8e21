"""The features step: valid rows in, one row a unit with a known label out, joined by Feast at the prediction time."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import PlatformError, UserError
from tidegate.features import feast_repo
from tidegate.features.asof import TIME
from tidegate.features.derive import fall_back
from tidegate.ingest.arrivals import parse_until
from tidegate.ingest.disk import atomic_file, read_manifest, read_tables, write_parquet
from tidegate.version.digest import parse_listing
from tidegate.version.dvc import Remote, md5_of, read_object, remote_of
from tidegate.workload import Workload, load_workload

if TYPE_CHECKING:
    import polars as pl

FIXED = (TIME, "label_timestamp", "outcome", "label")


@dataclass(frozen=True)
class FeaturesRecord:
    """What the rows are made of: `labelled` of the `rows` have a label, the others were cancelled."""

    data_version: str
    rows: int
    labelled: int
    features: tuple[str, ...]
    feature_service: str


def features(valid: Path, workload: str, data_version: Path, state: Path, out: Path) -> FeaturesRecord:
    """Write the file `out` (``features.parquet``): key, times, outcome, label, features, slices; by time and key.

    `data_version` is the file that the version step wrote; `valid` must hold exactly that version, which the remote in
    `state` must have, so that whatever is trained can be restored. Raises PlatformError when it does not.
    """
    known = load_workload(workload)
    name = _version_name(data_version)
    check_version(valid, name, remote_of(state))
    manifest = read_manifest(valid)
    tables = read_tables(valid, manifest)
    rows = known.entities(tables, parse_until(manifest.until)).sort(TIME, known.key)
    repo = feast_repo.find_repo(known.feature_repo, workload.partition(":")[0])
    joined = through_feast(rows, known, known.views(tables), repo, out.parent)
    final = ordered(fall_back(joined, known.fallbacks), known)
    with atomic_file(out) as made:
        write_parquet(final, made)
    labelled = final.height - final["label"].null_count()
    names = tuple(feature.name for feature in known.features)
    return FeaturesRecord(name, final.height, labelled, names, known.feature_service)


def through_feast(
    rows: pl.DataFrame, known: Workload, views: dict[str, pl.DataFrame], repo: Path, beside: Path
) -> pl.DataFrame:
    """Entity rows with the repo's features, joined by Feast in a copy of the repo beside the views' tables.

    Only join keys, request-time inputs and a row number go through Feast; everything else stays here.
    """
    import polars as pl

    beside.mkdir(parents=True, exist_ok=True)
    number = "__row"
    keys = {view.entity_keys.get(key, key) for view in known.view_definitions() for key in view.keys}
    numeric = [column for column in rows.columns if rows[column].dtype.is_numeric() and column != "label"]
    sent = [*sorted(keys), *numeric, TIME]
    with tempfile.TemporaryDirectory(dir=beside, prefix=".feast-") as made:
        work = Path(made)
        shutil.copytree(repo, work / repo.name, ignore=shutil.ignore_patterns("__pycache__", "data"))
        for name, table in views.items():
            path = work / "data" / "views" / name / "batch.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table.write_parquet(path, compression="uncompressed")
        asked = rows.select(sent).with_row_index(number)
        answer = feast_repo.historical(work / repo.name, known.feature_service, asked)
    looked_up = answer.sort(number).select(pl.exclude(*sent, number))
    return pl.concat([rows, looked_up], how="horizontal")


def ordered(joined: pl.DataFrame, known: Workload) -> pl.DataFrame:
    """The columns that train reads, in order: key, times, outcome, label, features, slices that are no feature.

    A numeric feature is Float32, and NaN is null.
    """
    import polars as pl

    names = [feature.name for feature in known.features]
    if missing := [name for name in names if name not in joined.columns]:
        raise UserError(f"feature service {known.feature_service}", f"no {', '.join(missing)}", "every model feature")
    numeric = [feature.name for feature in known.features if feature.kind == "numeric"]
    slices = [column for column in known.slices.values() if column not in (*names, *FIXED)]
    columns = dict.fromkeys([known.key, *FIXED, *names, *slices])
    return joined.with_columns(pl.col(numeric).cast(pl.Float32).fill_nan(None)).select(*columns)


def check_version(valid: Path, name: str, remote: Remote) -> None:
    """PlatformError unless `valid` holds the files of the data version `name`, byte for byte, and the remote has it."""
    for relpath, md5 in parse_listing(read_object(remote, name), name).items():
        path = valid / relpath
        if not path.is_file() or md5_of(path) != md5:
            raise PlatformError(f"{path} is not what data version {name} says")


def _version_name(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(str(path), str(error)[:80], "the data_version.json of a version step") from None
