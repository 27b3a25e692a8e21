"""The same flights from a folder, an SQL table and an object store: one data version; taken again, nothing new.

The object store is a real S3 server (``rclone serve s3``); the databases are SQLite and, where its server and a driver
are installed, PostgreSQL.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from tidegate.ingest.arrivals import parse_until
from tidegate.ingest.disk import read_manifest
from tidegate.ingest.step import ingest
from tidegate.ingest.stream_log import KNOWN, StreamLog
from tidegate.validate.step import validate
from tidegate.version import dvc
from tidegate.version.checkout import checkout
from tidegate.version.history import versions
from tidegate.version.step import version

sys.path.insert(0, str(Path(__file__).parents[1]))
NAME = "readings:flights"
UNTIL = "2013-02-10T00:00:00Z"
KEYS = ("someone", "something-secret")
DEADLINE = 30


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answers(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server takes connections."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        assert process.poll() is None, "the server ended"
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"nothing answers on port {port}")


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """A real S3 server over a folder with an empty bucket; gives (folder of the bucket, options for fsspec)."""
    rclone = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    (folder / "bucket").mkdir()
    address, keys = f"127.0.0.1:{port}", ",".join(KEYS)
    words = (rclone, "serve", "s3", "--addr", address, "--auth-key", keys, "--config", "/dev/null", str(folder))
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        answers(port, process)
        yield folder / "bucket", {"endpoint_url": f"http://{address}", "key": KEYS[0], "secret": KEYS[1]}
    finally:
        process.terminate()
        process.wait(DEADLINE)


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    from flights.source import FlightSource

    return FlightSource().arrivals(parse_until("2013-02-15"))


@pytest.fixture(scope="module")
def folders(tables, tmp_path_factory) -> dict[str, str]:
    """The rows in files: by thirds in mixed order, the last third as CSV, with some rows twice."""
    base, found = tmp_path_factory.mktemp("files"), {}
    for name, table in tables.items():
        (base / name).mkdir()
        mixed = table.sample(fraction=1.0, shuffle=True, seed=5)
        third = table.height // 3
        mixed[:third].write_parquet(base / name / "a.parquet")
        mixed[third - 20 : 2 * third].with_columns(pl.col("event_time").dt.cast_time_unit("ms")).write_parquet(
            base / name / "b.parquet"
        )
        mixed[2 * third :].write_csv(base / name / "c.csv")
        found[name] = str(base / name)
    return found


def gate(said: object, base: Path, state: Path, monkeypatch) -> tuple[str, int, dict[str, int]]:
    """Ingest, validate, version: the data version, the pieces that were read, the rows by table."""
    monkeypatch.setenv("READINGS", json.dumps(said))
    record = ingest(NAME, UNTIL, base / "arrivals", state)
    assert validate(base / "arrivals", NAME, base / "valid").verdict == "passed"
    return version(base / "valid", state, base / "v.json").version, record.parts, record.tables


def fill(url: str, tables: dict[str, pl.DataFrame]) -> None:
    """The tables in a database, rows in a mixed order; times as the database has them."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)
    kinds = {pl.String: sqlalchemy.Text, pl.Int32: sqlalchemy.Integer, pl.Float64: sqlalchemy.Double}
    for name, table in tables.items():
        columns = [
            sqlalchemy.Column(column, kinds.get(dtype.base_type(), sqlalchemy.DateTime(timezone=True)))
            for column, dtype in table.schema.items()
        ]
        made = sqlalchemy.Table(name, sqlalchemy.MetaData(), *columns)
        made.create(engine)
        with engine.begin() as connection:
            connection.execute(made.insert(), table.sample(fraction=1.0, shuffle=True, seed=6).to_dicts())
    engine.dispose()


def log_of_a_stream(tables: dict[str, pl.DataFrame], folder: Path) -> Path:
    """The raw log that a stream of these rows would leave, in pieces whose rows are in any order."""
    known = pl.lit(parse_until("2013-03-01"), pl.Datetime("us", "UTC")).alias(KNOWN)
    for name, table in tables.items():
        for start in range(0, table.height, 20_000):
            piece = table[start : start + 20_000].sample(fraction=1.0, shuffle=True, seed=7).with_columns(known)
            StreamLog(folder).append(name, start + 1, start + piece.height, piece)
    return folder


def test_a_folder_a_table_a_bucket_and_a_stream_give_the_same_data_version(folders, tables, s3, tmp_path, monkeypatch):
    bucket, options = s3
    shutil.copytree(Path(folders["flights"]).parent, bucket / "rows")
    fill(f"sqlite:///{tmp_path}/flights.db", tables)
    ways = {
        "folder": {"files": folders},
        "bucket": {"files": {name: f"s3://bucket/rows/{name}" for name in folders}, "options": options},
        "stream": {"stream": str(log_of_a_stream(tables, tmp_path / "log"))},
        "table": {"sql": [f"sqlite:///{tmp_path}/flights.db", {name: name for name in tables}]},
    }
    first = {way: gate(said, tmp_path / way, tmp_path / way / "state", monkeypatch) for way, said in ways.items()}
    assert len({name for name, _, _ in first.values()}) == 1
    wanted = {name: table.filter(pl.col("event_time") <= parse_until(UNTIL)).height for name, table in tables.items()}
    for way, (name, parts, rows) in first.items():
        assert parts > 0
        assert rows == wanted
        again = gate(ways[way], tmp_path / way, tmp_path / way / "state", monkeypatch)
        assert again == (name, 0, wanted), way
        assert len(versions(tmp_path / way / "state")) == 1


def test_the_rows_of_files_are_those_of_the_source_itself(folders, tables, tmp_path, monkeypatch):
    """Against the flights' own source, which has no pieces: equal but for the width of integers."""
    monkeypatch.setenv("READINGS", json.dumps({"files": folders}))
    for way, name in (("files", NAME), ("object", "flights.workload:flight_delay")):
        ingest(name, UNTIL, tmp_path / way)
    for name in tables:
        found = [
            pl.concat(pl.read_parquet(tmp_path / way / part.path) for part in parts)
            for way in ("files", "object")
            for parts in [read_manifest(tmp_path / way).tables[name]]
        ]
        assert found[0].equals(found[1].cast(found[0].schema).select(found[0].columns).sort(*order(name)))


def order(name: str) -> list[str]:
    return ["event_time", "origin"] if name == "weather" else ["event_time", "flight_id"]


def test_dvc_itself_restores_a_version_from_an_object_store(folders, s3, tmp_path, monkeypatch):
    bucket, options = s3
    monkeypatch.setenv(dvc.VARIABLE, "s3://bucket/remote")
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS[1])
    name, _, _ = gate({"files": folders}, tmp_path, tmp_path / "state", monkeypatch)
    assert not (tmp_path / "state" / "dvc-remote").exists()
    pushed = files(bucket / "remote", "*")
    gate({"files": folders}, tmp_path, tmp_path / "state", monkeypatch)
    assert files(bucket / "remote", "*") == pushed
    valid = files(tmp_path / "valid", "*.parquet")
    (known,) = versions(tmp_path / "state")
    assert known.version == name
    checkout(known, tmp_path / "again")
    assert files(tmp_path / "again", "*.parquet") == valid
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "valid.dvc").write_text(json.loads((tmp_path / "v.json").read_text())["dvc"])
    remote = remote_for_dvc(bucket, options)
    run("init", "--no-scm", "-q", folder=repo)
    for words in (
        ("add", "-q", "-d", "store", remote.pop("url")),
        *(("modify", "store", *one) for one in remote.items()),
    ):
        run("remote", *words, folder=repo)
    run("fetch", "-q", folder=repo)
    run("checkout", "-q", folder=repo)
    assert {k: v for k, v in files(repo / "valid", "*.parquet").items()} == valid
    assert run("status", folder=repo).strip().endswith("up to date.")


def remote_for_dvc(bucket: Path, options: dict[str, str]) -> dict[str, str]:
    """DVC's S3 remote where its plug-in ``dvc-s3`` is installed, else the bucket's objects as a folder."""
    if importlib.util.find_spec("dvc_s3"):
        said = {"endpointurl": options["endpoint_url"], "access_key_id": KEYS[0], "secret_access_key": KEYS[1]}
        return {"url": "s3://bucket/remote", **said}
    return {"url": str(bucket / "remote")}


def run(*words: str, folder: Path) -> str:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    command = (sys.executable, "-m", "dvc", *words)
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=environment).stdout


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob(pattern) if p.is_file()}
    return {name: content for name, content in found.items() if "quarantine" not in name}


@pytest.fixture(scope="module")
def postgresql():
    """The URL of an empty database of a real server."""
    from real_postgresql import postgresql_server

    with postgresql_server() as url:
        yield url


def test_postgresql_gives_the_same_data_version_too(folders, tables, postgresql, tmp_path, monkeypatch):
    fill(postgresql, tables)
    said = {"sql": [postgresql, {name: name for name in tables}]}
    table = gate(said, tmp_path / "table", tmp_path / "table" / "state", monkeypatch)
    assert table[0] == gate({"files": folders}, tmp_path / "folder", tmp_path / "state", monkeypatch)[0]
    assert gate(said, tmp_path / "table", tmp_path / "table" / "state", monkeypatch)[:2] == (table[0], 0)
