"""`tidegate version list`, `checkout` and `diff`, and the one commit that a checkout may make."""

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tidegate.cli import app
from tidegate.errors import PlatformError, UserError
from tidegate.ingest.arrivals import Manifest, Partition
from tidegate.ingest.disk import read_manifest, sha256_of, write_parquet
from tidegate.version import dvc
from tidegate.version.checkout import checkout
from tidegate.version.diff import diff
from tidegate.version.history import find, remember, versions
from tidegate.version.step import version


def valid(folder, months):
    """A folder of one table as the data gate leaves it: month -> rows."""
    parts = []
    for month, count in months.items():
        start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
        table = pl.DataFrame({"event_time": [start + timedelta(hours=n) for n in range(count)], "n": range(count)})
        path = folder / "t" / f"{month}.parquet"
        write_parquet(table, path)
        parts.append(Partition(f"t/{month}.parquet", count, sha256_of(path)))
    (folder / "manifest.json").write_text(Manifest("w:w", "2024-06-01T00:00:00Z", {"t": tuple(parts)}).dump())
    return folder


@pytest.fixture
def state(tmp_path):
    """Two versions: January and February; then a longer February, March, and no January."""
    for name, months in {"one": {"2024-01": 3, "2024-02": 4}, "two": {"2024-02": 5, "2024-03": 6}}.items():
        version(valid(tmp_path / name, months), tmp_path / "state", tmp_path / "v.json")
    return tmp_path / "state"


def ask(*words):
    done = CliRunner().invoke(app, ["version", *map(str, words), "--json"], standalone_mode=False)
    if done.exception:
        raise done.exception
    return json.loads(done.stdout)


def test_versions_are_listed_oldest_first_and_taken_again_keep_their_time(state, tmp_path):
    first = ask("list", "--state", state)
    version(tmp_path / "one", state, tmp_path / "v.json")
    assert ask("list", "--state", state) == first
    assert [(one["rows"], one["files"]) for one in first] == [(7, 2), (11, 2)]
    assert first[0]["time"] < first[1]["time"]
    assert first[1]["remote"] == str(state / "dvc-remote")


def test_a_version_comes_back_as_it_was_with_its_manifest(state, tmp_path):
    one, two = versions(state)
    for known, name in ((one, "one"), (two, "two"), (one, "one")):
        said = ask("checkout", known.version[:8], "--out", tmp_path / "again", "--state", state)
        assert (said["version"], said["files"], said["rows"]) == (known.version, 2, known.rows)
        assert contents(tmp_path / "again") == contents(tmp_path / name)
        assert read_manifest(tmp_path / "again") == read_manifest(tmp_path / name)


def test_a_diff_names_partitions_and_rows(state):
    one, two = (known.version for known in versions(state))
    said = ask("diff", one[:10], two[:10], "--state", state)
    assert (said["from"], said["to"], said["same"]) == (one, two, False)
    (table,) = said["tables"].values()
    assert (table["rows_before"], table["rows_after"]) == (7, 11)
    changes = {key: table[key] for key in ("added", "removed", "changed")}
    assert changes == {
        "added": ["t/2024-03.parquet"],
        "removed": ["t/2024-01.parquet"],
        "changed": ["t/2024-02.parquet"],
    }
    assert ask("diff", one, one, "--state", state)["same"]


def test_a_folder_with_something_else_in_it_is_left_alone(state, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="new, empty or an earlier checkout"):
        checkout(versions(state)[0], tmp_path / "home")
    assert contents(tmp_path / "home") == {"thesis.txt": b"years of work"}


def test_an_object_with_other_bytes_than_its_name_says_is_refused(state, tmp_path):
    known = versions(state)[0]
    objects = [p for p in (state / "dvc-remote").rglob("*") if p.is_file() and p.suffix != ".dir"]
    for path in objects:
        path.chmod(0o644)
        path.write_bytes(b"x")
    with pytest.raises(PlatformError, match="holds other bytes"):
        checkout(known, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("text", ["", "nothing", "0x"])
def test_an_unknown_version_is_named(state, text):
    with pytest.raises(UserError, match="data version: got"):
        find(state, text)


def test_a_version_that_moved_to_another_remote_is_known_there(state):
    from dataclasses import replace

    known = versions(state)[0]
    remember(state, replace(known, remote="s3://elsewhere", time="2099-01-01T00:00:00Z"))
    assert versions(state)[0] == replace(known, remote="s3://elsewhere")


def test_the_variable_names_the_remote(state, tmp_path, monkeypatch):
    monkeypatch.setenv(dvc.VARIABLE, str(tmp_path / "shared"))
    record = version(tmp_path / "two", state, tmp_path / "v.json")
    assert record.added == record.files
    assert (tmp_path / "shared" / "files" / "md5").is_dir()
    monkeypatch.setenv(dvc.VARIABLE, "noprotocol://x")
    with pytest.raises(UserError, match="TIDEGATE_DVC_REMOTE"):
        version(tmp_path / "two", state, tmp_path / "v.json")


def git(folder, *words):
    return subprocess.run(("git", *words), cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for key in [key for key in os.environ if key.startswith("GIT_")]:
        monkeypatch.delenv(key)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "someone")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "someone@example.org")
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def test_a_checkout_commits_its_pointer_and_nothing_else(state, repository):
    (repository / "other.txt").write_text("not ready")
    git(repository, "add", "other.txt")
    one, two = versions(state)
    for known in (one, one, two):
        said = ask("checkout", known.version, "--out", repository / "data" / "valid", "--commit", "--state", state)
        assert said["committed"].endswith("data/valid.dvc")
        assert git(repository, "show", "HEAD:data/valid.dvc") == known.dvc
    assert git(repository, "log", "--format=%s", "--reverse").splitlines() == [
        f"Data version {one.version}",
        f"Data version {two.version}",
    ]
    assert git(repository, "log", "--name-only", "--format=").split() == ["data/valid.dvc"] * 2
    assert "A  other.txt" in git(repository, "status", "--porcelain")


def test_without_a_git_checkout_nothing_is_written(state, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(UserError, match="--commit"):
        checkout(versions(state)[0], tmp_path / "valid", commit=True)
    assert not (tmp_path / "valid").exists()


MANIFESTS = st.dictionaries(
    st.sampled_from("tu"), st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 9), st.sampled_from("xy")))
)


@given(MANIFESTS, MANIFESTS)
def test_a_diff_is_what_a_person_finds_by_looking_at_each_partition(before, after):
    def manifest(drawn):
        tables = {t: tuple(Partition(p, n, s) for p, (n, s) in sorted(parts.items())) for t, parts in drawn.items()}
        return Manifest("w", "u", tables)

    found = diff(manifest(before), manifest(after))
    assert found.keys() == {*before, *after}
    for name, one in found.items():
        old, new = before.get(name, {}), after.get(name, {})
        assert one.rows_before == sum(n for n, _ in old.values())
        assert one.rows_after == sum(n for n, _ in new.values())
        for part in "abc":
            assert (part in one.added) == (part in new and part not in old)
            assert (part in one.removed) == (part in old and part not in new)
            assert (part in one.changed) == (part in old and part in new and old[part][1] != new[part][1])
        assert one.same == ({p: s for p, (_, s) in old.items()} == {p: s for p, (_, s) in new.items()})


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
