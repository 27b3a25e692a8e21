"""The step cache: its key is contents, parameters and code; what it gives back is checked; outputs appear at once."""

import os
from pathlib import Path

import pytest

from tidegate import stepcache
from tidegate.errors import UserError
from tidegate.ingest.arrivals import Manifest, Partition


def tree(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_folders_digest_is_that_of_its_contents_whatever_it_is_called(tmp_path):
    one = tree(tmp_path / "one", **{"a": "1", "b/c": "2"})
    assert stepcache.content_digest(one) == stepcache.content_digest(tree(tmp_path / "two", **{"b/c": "2", "a": "1"}))
    others = ({"a": "1", "b/c": "3"}, {"a": "1", "b/d": "2"}, {"a": "1"}, {"a": "1", "bc": "2"})
    for number, files in enumerate(others):
        other = tree(tmp_path / f"other-{number}", **files)
        assert stepcache.content_digest(other) != stepcache.content_digest(one)


def with_manifest(folder: Path) -> Path:
    """A folder as the data steps write it: partitions, something else, the manifest last."""
    tree(folder, **{"t/a.parquet": "1", "t/b.parquet": "2", "report.json": "{}"})
    parts = [Partition(f"t/{x}.parquet", 1, stepcache.content_digest(folder / f"t/{x}.parquet")) for x in "ab"]
    (folder / "manifest.json").write_text(Manifest("w:w", "2024-01-01T00:00:00Z", {"t": tuple(parts)}).dump())
    return folder


def test_a_manifest_saves_the_reading_of_its_partitions_and_changes_no_digest(tmp_path, monkeypatch):
    folder = with_manifest(tmp_path / "valid")
    whole = stepcache.content_digest(folder)
    read = set()
    true_open = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *a, **b: read.add(path.name) or true_open(path, *a, **b))
    assert stepcache.known_digest(folder) == whole
    assert read == {"manifest.json", "report.json"}


@pytest.mark.parametrize("change", ["partition", "other", "manifest", "gone", "new"])
def test_what_was_touched_after_the_manifest_is_read(tmp_path, change):
    folder = with_manifest(tmp_path / "valid")
    before = stepcache.known_digest(folder)
    later = (folder / "manifest.json").stat().st_mtime_ns + 10**9
    names = {"partition": "t/a.parquet", "other": "report.json", "manifest": "manifest.json", "new": "t/c.parquet"}
    if change == "gone":
        (folder / "t/a.parquet").unlink()
    else:
        path = folder / names[change]
        path.write_text("changed")
        os.utime(path, ns=(later, later))
    assert stepcache.known_digest(folder) == stepcache.content_digest(folder) != before


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(UserError, match="the output of an earlier step"):
        stepcache.content_digest(tmp_path / "absent")


def test_the_key_depends_on_parameters_contents_and_code_and_not_on_paths(tmp_path):
    one, two = tree(tmp_path / "one", f="x"), tree(tmp_path / "two", f="x")
    base = stepcache.key("train", {"p": "1"}, {"in": one}, "code")
    assert stepcache.key("train", {"p": "1"}, {"in": two}, "code") == base
    others = [
        stepcache.key("evaluate", {"p": "1"}, {"in": one}, "code"),
        stepcache.key("train", {"p": "2"}, {"in": one}, "code"),
        stepcache.key("train", {"p": "1"}, {"in": tree(two, f="y")}, "code"),
        stepcache.key("train", {"p": "1"}, {"in": one}, "other"),
    ]
    assert len({base, *others}) == 5


def test_the_code_of_a_step_is_its_package_the_workload_and_the_libraries(tmp_path, monkeypatch):
    tree(tmp_path / "toy", **{"__init__.py": "", "workload.py": "one"})
    monkeypatch.syspath_prepend(str(tmp_path))
    parameters = {"workload": "toy.workload:w"}
    base = stepcache.code_digest("validate", (), parameters, ("polars",))
    assert stepcache.code_digest("validate", (), parameters, ("polars",)) == base
    assert stepcache.code_digest("train", (), parameters, ("polars",)) != base
    assert stepcache.code_digest("validate", (), parameters, ("polars", "numpy")) != base
    (tmp_path / "toy" / "workload.py").write_text("two")
    changed = stepcache.code_digest("validate", (), parameters, ("polars",))
    assert changed != base
    repo = tree(tmp_path / "repo", **{"views.py": "x", "data.parquet": "y"})
    assert stepcache.code_digest("validate", (), parameters, ("polars",), [repo]) != changed


def test_what_was_stored_comes_back(tmp_path):
    outputs = {
        "folder": tree(tmp_path / "out", **{"a": "1", "b/c": "2"}),
        "file": tree(tmp_path, single="x") / "single",
    }
    stepcache.store(tmp_path / "cache" / "k", outputs, {"verdict": "passed"})
    again = {"folder": tmp_path / "again" / "folder", "file": tmp_path / "again" / "file"}
    assert stepcache.fetch(tmp_path / "cache" / "k", again) == {"verdict": "passed"}
    for name in outputs:
        assert stepcache.content_digest(again[name]) == stepcache.content_digest(outputs[name])
    assert stepcache.fetch(tmp_path / "cache" / "absent", again) is None


def test_an_entry_that_was_changed_is_dropped(tmp_path):
    outputs = {"file": tree(tmp_path, single="x") / "single"}
    entry = tmp_path / "cache" / "k"
    stepcache.store(entry, outputs, {})
    (entry / "file").write_text("y")
    assert stepcache.fetch(entry, {"file": tmp_path / "new"}) is None
    assert not entry.exists()
    assert not (tmp_path / "new").exists()


def test_the_first_entry_stays(tmp_path):
    first, second = tree(tmp_path / "1", f="1") / "f", tree(tmp_path / "2", f="2") / "f"
    entry = tmp_path / "cache" / "k"
    stepcache.store(entry, {"f": first}, {"n": 1})
    stepcache.store(entry, {"f": second}, {"n": 2})
    assert stepcache.fetch(entry, {"f": tmp_path / "new"}) == {"n": 1}
    assert [path.name for path in entry.parent.iterdir()] == ["k"]


@pytest.mark.parametrize("before", ["nothing", "file", "folder"])
@pytest.mark.parametrize("after", ["file", "folder"])
def test_outputs_take_their_place_at_once_whatever_was_there(tmp_path, before, after):
    path = tmp_path / "out"
    if before != "nothing":
        tree(tmp_path, **({"out": "old"} if before == "file" else {"out/old": "old"}))
    with stepcache.fresh({"out": path}) as made:
        tree(made["out"], new="new") if after == "folder" else made["out"].write_text("new")
    assert ((path / "new") if after == "folder" else path).read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["out"]


def test_a_step_that_fails_leaves_the_old_output_and_nothing_else(tmp_path):
    tree(tmp_path, out="old")

    def fail() -> None:
        with stepcache.fresh({"out": tmp_path / "out"}) as made:
            made["out"].write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("out", "old")]
