"""Data versions: named by content, stored as DVC stores them, restored by the dvc command itself."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import PlatformError, UserError
from tidegate.ingest.step import ingest
from tidegate.version import dvc
from tidegate.version.digest import Entry, listing, parse_listing, pointer, version_of
from tidegate.version.step import version

FLIGHTS = "flights.workload:flight_delay"
DVC = [sys.executable, "-m", "dvc"]


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid") / "valid"
    ingest(FLIGHTS, "2013-02-02", folder)
    return folder


def test_the_same_rows_taken_again_are_the_same_version_and_add_nothing(valid, tmp_path):
    first = version(valid, tmp_path / "state", tmp_path / "a.json")
    again = version(valid, tmp_path / "state", tmp_path / "b.json")
    elsewhere = version(valid, tmp_path / "other", tmp_path / "c.json")
    assert first.version == again.version == elsewhere.version
    assert (first.added, again.added) == (first.files, 0)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["rows"] == first.rows


def test_a_new_partition_costs_only_itself(valid, tmp_path, monkeypatch):
    version(valid, tmp_path / "state", tmp_path / "a.json")
    ingest(FLIGHTS, "2013-02-03", tmp_path / "more")
    read = []
    true_md5 = dvc.md5_of
    monkeypatch.setattr(dvc, "md5_of", lambda path: read.append(path.name) or true_md5(path))
    record = version(tmp_path / "more", tmp_path / "state", tmp_path / "b.json")
    assert set(read) == {"2013-02.parquet"}
    assert record.added == 3  # February of three tables


def test_dvc_itself_restores_a_version(valid, tmp_path):
    version(valid, tmp_path / "state", tmp_path / "v.json")
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "valid.dvc").write_text(json.loads((tmp_path / "v.json").read_text())["dvc"])
    run(["init", "--no-scm", "-q"], repo)
    run(["remote", "add", "-q", "-d", "tidegate", str(tmp_path / "state" / "dvc-remote")], repo)
    run(["pull", "-q"], repo)
    assert files(repo / "valid") == files(valid)
    assert run(["status"], repo).strip().endswith("up to date.")


def test_dvc_names_the_folder_as_we_do(valid, tmp_path):
    record = version(valid, tmp_path / "state", tmp_path / "v.json")
    shutil.copytree(valid, tmp_path / "repo" / "valid", ignore=shutil.ignore_patterns("manifest.json"))
    run(["init", "--no-scm", "-q"], tmp_path / "repo")
    run(["add", "-q", "valid"], tmp_path / "repo")
    theirs = (tmp_path / "repo" / "valid.dvc").read_text()
    assert theirs == json.loads((tmp_path / "v.json").read_text())["dvc"]
    assert record.version in theirs


def test_an_object_is_never_half_written(tmp_path, monkeypatch):
    (tmp_path / "x").write_text("x")
    remote, name = dvc.open_remote(str(tmp_path / "remote")), dvc.md5_of(tmp_path / "x")

    def full(source, target):
        Path(target).write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(PlatformError, match="No space left"):
        dvc.push(tmp_path / "x", remote, name)
    assert not [path for path in (tmp_path / "remote").rglob("*") if path.is_file()]


def test_a_missing_object_and_a_broken_listing_are_named(tmp_path):
    with pytest.raises(PlatformError, match=r"abcd\.dir is not there"):
        dvc.read_object(dvc.open_remote(str(tmp_path)), "abcd.dir")
    with pytest.raises(UserError, match="DVC listing"):
        parse_listing(b"{}x", "here")
    for path in ("/etc/x", "../x", "a/../../x"):
        with pytest.raises(UserError, match="paths stay in it"):
            parse_listing(json.dumps([{"relpath": path, "md5": "ab" * 16}]).encode(), "here")


@given(st.dictionaries(st.text("abc", min_size=1), st.text("0123456789abcdef", min_size=32, max_size=32)))
def test_a_listing_reads_back_whatever_the_order(files):
    entries = [Entry(path, md5, 1) for path, md5 in files.items()]
    assert parse_listing(listing(entries), "here") == files
    assert version_of(entries) == version_of(entries[::-1])
    assert version_of(entries) in pointer(entries, "valid")


def test_what_is_lost_in_the_remote_is_pushed_again(valid, tmp_path):
    first = version(valid, tmp_path / "state", tmp_path / "v.json")
    shutil.rmtree(tmp_path / "state" / "dvc-remote")
    assert version(valid, tmp_path / "state", tmp_path / "v.json").added == first.files


def files(folder):
    """The partitions by path; the manifest is told by the version's record."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.parquet")}


def run(arguments, folder):
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    ran = subprocess.run([*DVC, *arguments], cwd=folder, check=True, capture_output=True, text=True, env=environment)
    return ran.stdout
