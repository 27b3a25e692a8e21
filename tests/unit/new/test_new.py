"""`tidegate new`: what is inferred, what is refused in one line, and that nothing is left of a refusal."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.own_files import ASKED, START
from tidegate.errors import UserError
from tidegate.new.project import create
from tidegate.new.propose import Roles, propose
from tidegate.new.render import render
from tidegate.spec import load_model

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROLES = Roles("y", "t", "id", timedelta(days=1))
N = 4000


def frame(**columns: list) -> pl.DataFrame:
    """Rows of 40 days; `columns` are added to, or stand in for, id, t, x and y."""
    usual = {
        "id": [str(i) for i in range(N)],
        "t": [(START + timedelta(minutes=14.4 * i)).isoformat() for i in range(N)],
        "x": [str(i * 7 % 100) for i in range(N)],
        "y": [str(i * i % 2) for i in range(N)],
    }
    return pl.DataFrame({**usual, **columns})


def proposed(**columns: list):
    return propose("mine", frame(**columns), ROLES, "f.csv", NOW)


def column(made, name):
    (found,) = [one for one in made.columns if one.name == name]
    return found


def test_kinds_limits_and_values_are_read_off_the_rows():
    made = proposed(
        price=[f"{i % 90 + 10}.5" for i in range(N)],
        shop=[("north", "south", "east", "NA")[i % 4] for i in range(N)],
        gain=[str(i % 21 - 10) for i in range(N)],
        flag=[str(i % 3 == 0).lower() for i in range(N)],
    )
    price, shop, gain = (column(made, name) for name in ("price", "shop", "gain"))
    assert (price.kind, price.low, price.high, price.nullable) == ("number", 0.0, 190.0, False)
    assert (gain.kind, gain.low, gain.high) == ("integer", -30, 30)
    assert (shop.kind, shop.nullable, made.shape.nothing) == ("text", True, ("NA",))
    values = {one.name: one.values for one in made.features}
    assert (values["shop"], values["flag"], values["x"]) == (("east", "north", "south"), ("false", "true"), ())
    assert made.histories == ("shop",)


def test_a_key_that_repeats_is_whom_a_row_is_about():
    made = proposed(id=[f"c{i % 200}" for i in range(N)])
    assert (made.entity, made.histories, made.table.key) == ("id", ("id",), ("id", "asked_at"))
    assert 'key="row_id"' in render(made, "f.csv")["src/mine/workload.py"]


def test_what_no_model_can_use_is_left_out_with_its_reason():
    made = proposed(
        note=[f"call {i}" for i in range(N)],
        same=["1"] * N,
        ended=[(START + timedelta(hours=i)).isoformat() for i in range(N)],
        outcome_2=[("bad", "good")[i * i % 2] for i in range(N)],
    )
    assert {one.raw: one.why_not for one in made.others if one.why_not} == {
        "note": "text of 4000 values",
        "same": "one value only",
        "ended": "a time; make a feature of it by hand",
        "outcome_2": "the label under another name",
    }


@pytest.mark.parametrize(
    ("values", "positive"),
    [(("no", "yes"), "yes"), (("true", "false"), "true"), (("good", "bad"), "good"), (("1", "2"), 2), (("0", "1"), 1)],
)
def test_the_label_that_is_predicted(values, positive):
    assert proposed(y=[values[i % 3 == 0] for i in range(N)]).positive == positive


def test_a_column_that_stands_still_for_a_month_does_not_cost_its_rows():
    still = proposed(on=[str(int(i > N - 100)) for i in range(N)], twin=[str(i * 7 % 100) for i in range(N)])
    assert column(still, "on").constant
    assert column(still, "twin").same_as == "x"


def test_columns_may_have_the_platforms_own_names_where_they_have_that_part():
    rows = frame().rename({"id": "row_id", "t": "event_time", "y": "outcome"})
    made = propose("mine", rows, Roles("outcome", "event_time", "row_id", timedelta(hours=3)), "f.csv", NOW)
    assert [column.name for column in made.columns] == ["row_id", "asked_at", "event_time", "label", "x"]
    assert "timedelta(hours=3)" in render(made, "f.csv")["src/mine/source.py"]


@pytest.mark.parametrize(
    ("columns", "roles", "says"),
    [
        ({}, {"label": "z"}, "f.csv: --label: got 'z', takes one of its columns: id, t, x, y"),
        ({}, {"time": "x"}, "f.csv: --time x: got '0', takes a column of times"),
        ({}, {"time": "id", "key": "id"}, "--label, --time and --key: got 'y, id, id', takes three columns"),
        ({"y": ["1"] * N}, {}, "f.csv: --label y: got '1 values, 1', takes a label of two values"),
        ({"y": [str(i % 3) for i in range(N)]}, {}, "f.csv: --label y: got '3 values, 0, 1, 2'"),
        ({"y": [("0.5", "1.5")[i % 2] for i in range(N)]}, {}, "f.csv: --label y: got '0.5, 1.5'"),
        ({"t": ["2031-01-01"] * N}, {}, "--time t: got '2031-01-01 00:00:00+00:00', takes times that have passed"),
        ({"t": ["2025-03-01T00:00:00"] * N}, {}, "f.csv: got '0 of 4000', takes 1000 labelled rows or more"),
        ({"X": ["1"] * N}, {}, "columns x and X: got 'both x', takes columns whose letters and digits differ"),
        ({"event_time": ["1"] * N}, {}, "column event_time: got 'event_time', takes another name"),
        (
            {"id": [f"c{i % 9}" for i in range(N)], "t": ["2025-03-01"] * 2000 + ["2025-05-01"] * 2000},
            {},
            "f.csv: got '3982 of 4000 rows that fail, most by unique id+asked_at', takes at most 1%; rows are told",
        ),
    ],
)  # fmt: skip
def test_rows_that_are_no_workload_are_refused_in_one_line(columns, roles, says):
    with pytest.raises(UserError) as caught:
        propose("mine", frame(**columns), Roles(**{**vars(ROLES), **roles}), "f.csv", NOW)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def file(tmp_path) -> Path:
    frame().write_csv(tmp_path / "f.csv")
    return tmp_path / "f.csv"


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["", "Mine", "1st", "a-b", "class", "json", "tidegate", "flights", "../up"])
def test_a_name_that_cannot_be_one_is_refused(file, tmp_path, name):
    with pytest.raises(UserError, match="NAME"):
        create(name, file, ROLES, tmp_path / "into")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize(
    "there", ["src/mine/own.py", "k8s/models/mine.yaml", "tests/unit/mine/x.py", "data/mine/old.csv"]
)
def test_what_is_there_is_never_written_over(file, tmp_path, there):
    into = tmp_path / "into"
    (into / there).parent.mkdir(parents=True)
    (into / there).write_text("mine")
    with pytest.raises(UserError, match="there already") as caught:
        create("mine", file, ROLES, into)
    assert str(into) in str(caught.value)
    assert [(path, path.read_text()) for path in files_of(into)] == [(into / there, "mine")]


def test_a_disk_that_gives_up_half_way_leaves_nothing(file, tmp_path, monkeypatch):
    moved, rename = [], Path.rename

    def fails_at_the_fifth(self, target):
        moved.append(target)
        if len(moved) == 5:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_at_the_fifth)
    with pytest.raises(UserError, match="No space left on device"):
        create("mine", file, ROLES, tmp_path / "into")
    assert (len(moved), files_of(tmp_path / "into")) == (5, [])


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing", b"\x1f\x8b\x08"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, content):
    for suffix in ("csv", "parquet"):
        (tmp_path / f"f.{suffix}").write_bytes(content)
        with pytest.raises(UserError) as caught:
            create("mine", tmp_path / f"f.{suffix}", ROLES, tmp_path / "into")
        assert "\n" not in str(caught.value)


def test_the_command_says_what_is_wrong_with_its_span(file):
    words = ("new", "mine", "--from", str(file), "--label", "y", "--time", "t", "--key", "id", "--label-after", "soon")
    done = subprocess.run([sys.executable, "-m", "tidegate.cli", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tidegate: --label-after: got 'soon', takes a time span")


@pytest.mark.parametrize("name", ASKED)
def test_what_is_written_is_as_the_linter_wants_it_and_its_model_file_is_valid(name, tmp_path):
    make, file, options = ASKED[name]
    roles = Roles(options[1], options[3], options[5], timedelta(days=1))
    written = create(name, make(tmp_path / file, days=60), roles, tmp_path / "into")
    assert load_model(tmp_path / f"into/k8s/models/{name}.yaml").spec.workload == f"{name}.workload:{name}"
    assert str(tmp_path) not in "".join((tmp_path / "into" / path).read_text() for path in written.files)
    first_party = ("--config", 'lint.isort.known-first-party=["tidegate"]')
    for words in (("check", *first_party), ("format", "--check")):
        ruff = [Path(sys.executable).parent / "ruff", *words, "--config", ROOT / "pyproject.toml", "."]
        done = subprocess.run(ruff, cwd=tmp_path / "into", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
