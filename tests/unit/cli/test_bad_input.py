"""Bad input: one clear line on stderr, exit status 2, nothing written."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

QUICK = Path("tests/models/quick.yaml")
FLIGHTS = ("--workload", "flights.workload:flight_delay")


def refused(told) -> str:
    """The one line of a refusal."""
    assert (told.status, told.out) == (2, "")
    (line,) = told.err.splitlines()
    assert line.startswith("tidegate: ")
    return line.removeprefix("tidegate: ")


@pytest.fixture
def model(tmp_path):
    """Writes tests/models/quick.yaml with one text replaced by another."""

    def write(old: str, new: str) -> Path:
        text = QUICK.read_text()
        assert text.count(old) == 1
        path = tmp_path / "model.yaml"
        path.write_text(text.replace(old, new))
        return path

    return write


WRONG = {
    "minDuration: 1h": ("minDuration: 1 fortnight", "spec.release.minDuration: got '1 fortnight', takes a time span"),
    "watch: 8h": ("watsch: 8h", "spec.release.watsch: got '8h', takes no such field"),
    "margin: 5%": ("margin: 0.05", "spec.release.judge.errors.margin: got 0.05, takes a share with %"),
    "kind: Model": ("kind: Mode", "kind: got 'Mode', takes"),
    "name: quick": ("name: Quick Model", "metadata.name: got 'Quick Model', takes"),
    "alpha: 0.05": ("alpha: 0.7", "spec.release.judge.alpha: got 0.7, takes"),
    "workload: flights.workload:flight_delay": ("workload: flights", "spec.workload: got 'flights', takes"),
    "cooldown: 1h": ("cooldown: 1h, schedule: {cron: every day}", "cron: got 'every day', takes"),
    "slices: [origin]}": (
        "slices: [origin]}\n  training: {families: [forest]}",
        "training.families: got 'forest', takes one of hist",
    ),
    "shadow: {requests: 300}": (
        "approval: {}}, {ab: {arms: {champion: 50%, a: 25%}}",
        "release.stages.1.ab.arms: got '75%', takes arms that sum to 100%",
    ),
}


@pytest.mark.parametrize("command", ["up", "run"])
@pytest.mark.parametrize("old", WRONG)
def test_a_wrong_field_of_the_model_file_is_named(tidegate, tmp_path, model, command, old):
    new, told = WRONG[old]
    line = refused(tidegate(command, model(old, new), "--state", tmp_path / "state"))
    assert told in line
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", ["up", "run"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "got 'no file', takes the path of a YAML file"),
        (b"{a: [", "takes a readable YAML document"),
        (b"\xff\xfe\x00", "takes a readable YAML document"),
        (b"", "got 'NoneType', takes a mapping"),
        (b"- 1\n- 2\n", "got 'list', takes a mapping"),
        (b"kind: Model\n", "apiVersion: got None, takes a value; the field is required"),
    ],
)
def test_a_file_that_is_no_model_file_is_said_to_be_none(tidegate, tmp_path, command, content, told):
    path = tmp_path / "model.yaml"
    if content is not None:
        path.write_bytes(content)
    line = refused(tidegate(command, path, "--state", tmp_path / "state"))
    assert line.startswith(str(path))
    assert told in line
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", ["up", "run"])
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("flights.workload:flight_delay", "nothing.there:x", "No module named 'nothing'"),
        ("flights.workload:flight_delay", "flights.workload:nothing", "has no attribute 'nothing'"),
        ("triggers:", "pipeline: {package: nowhere.yaml}\n  triggers:", "nowhere.yaml: got 'no file'"),
        ("triggers:", "pipeline: {package: params.yaml}\n  triggers:", "takes a compiled KFP package"),
    ],
)
def test_what_a_model_file_only_names_is_asked_for_before_anything_is_written(
    tidegate, tmp_path, model, command, old, new, told
):
    line = refused(tidegate(command, model(old, new), "--state", tmp_path / "state"))
    assert told in line
    assert not (tmp_path / "state").exists()


def test_a_time_that_is_none_is_told(tidegate, tmp_path):
    line = refused(tidegate("run", QUICK, "--state", tmp_path / "state", "--until", "yesterday"))
    assert line.startswith("--until: got 'yesterday', takes a time in ISO 8601")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("up", QUICK, "--clock", "moon"), "--clock: got 'moon', takes wall or events"),
        (("run", QUICK, "--mode", "magic"), "--mode: got 'magic', takes auto, stateless or stateful"),
        (("run", QUICK, "--orchestrator", "argo"), "orchestrator: got 'argo', takes auto, local, job or kubeflow"),
        (("run", QUICK, "--orchestrator", "job"), "spec.pipeline.image: got None"),
        (("run", QUICK, "--recurring"), "--recurring: got 'orchestrator auto', takes"),
        (("run",), "MODEL.yaml"),
        (("up", QUICK, "--prot", "1"), "--prot"),
        (("up", QUICK, "--port", "many"), "--port"),
        (("frobnicate",), "frobnicate"),
        (("release", "frobnicate"), "frobnicate"),
        (("release", "abort", "quick-r1"), "--reason"),
    ],
)
def test_wrong_use_is_one_line(tidegate, tmp_path, monkeypatch, words, told):
    monkeypatch.setenv("USER", "ann")
    state = ("--state", tmp_path / "state") if len(words) > 1 and words[0] in ("up", "run") else ()
    assert told in refused(tidegate(*words, *state))
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", ["up", "run"])
def test_a_state_path_that_is_a_file_stays_as_it_is(tidegate, tmp_path, command):
    (tmp_path / "state").write_text("mine")
    for state in (tmp_path / "state", tmp_path / "state" / "below"):
        assert "is a file" in refused(tidegate(command, QUICK, "--state", state))
    assert (tmp_path / "state").read_text() == "mine"


@pytest.mark.parametrize("words", [("status",), ("log",), ("replay",), ("release", "list"), ("release", "show", "r")])
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_a_journal_is_said_to_have_none(tidegate, tmp_path, words, there):
    folder = tmp_path / "state"
    if there:
        folder.mkdir()
    assert "no journal.db in it" in refused(tidegate(*words, "--state", folder))
    assert not folder.exists() or list(folder.iterdir()) == []


def test_a_journal_that_is_no_database_is_said_to_be_none(tidegate, tmp_path):
    (tmp_path / "journal.db").write_bytes(b"not a database" * 100)
    for word in ("status", "log", "replay"):
        assert "journal.db" in tidegate(word, "--state", tmp_path).err
    assert [path.name for path in tmp_path.iterdir()] == ["journal.db"]


def test_a_port_in_use_is_told_before_anything_is_written(tidegate, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(tidegate("up", QUICK, "--state", tmp_path / "state", "--port", port))
    assert line == f"port {port}: got 'in use', takes a port that nothing listens on"
    assert not (tmp_path / "state").exists()


@pytest.fixture
def tiny_disk(tmp_path) -> Iterator[Path]:
    """A disk of one MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if os.geteuid() != 0 or made.returncode:
        pytest.skip("only root mounts a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("command", ["up", "run"])
def test_a_full_disk_is_told_before_anything_is_written(tidegate, tiny_disk, command):
    line = refused(tidegate(command, QUICK, "--state", tiny_disk / "state"))
    assert "1 MiB free on its disk" in line
    assert list(tiny_disk.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tidegate, tmp_path):
    line = refused(tidegate("run", QUICK, "--state", "/proc/nothing/state"))
    assert line.startswith("--state /proc/nothing/state")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.parquet", None, "got 'no file', takes the path of a Parquet or CSV file"),
        ("corrupt.parquet", b"PAR1 is how it begins, and then it is nothing", "takes a readable Parquet file"),
        ("empty.parquet", b"", "takes a readable Parquet file"),
    ],
)
def test_a_data_file_that_cannot_be_read_is_named(tidegate, tmp_path, name, content, told):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    line = refused(tidegate("validate", path, *FLIGHTS))
    assert line.startswith(str(path))
    assert told in line


def test_a_parquet_file_that_was_cut_off_is_named(tidegate, tmp_path):
    import polars as pl

    path = tmp_path / "flights.parquet"
    pl.DataFrame({"flight_id": ["a"] * 1000, "distance": [1.0] * 1000}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    assert "takes a readable Parquet file" in refused(tidegate("validate", path, *FLIGHTS))


@pytest.mark.parametrize(
    ("workload", "told"),
    [
        (("--workload", "nothing.there:x"), "No module named 'nothing'"),
        (("--workload", "flights.workload"), "takes package.module:object"),
        (("--workload", "json:dumps"), "this one is a function"),
        ((), "--workload: got None"),
    ],
)
def test_a_workload_that_does_not_import_is_told(tidegate, tmp_path, workload, told):
    path = tmp_path / "flights.parquet"
    path.write_bytes(b"")
    assert told in refused(tidegate("validate", path, *workload))
