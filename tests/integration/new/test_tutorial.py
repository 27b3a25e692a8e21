"""The tutorial, block by block, from a clean clone: from a file to a released v1.1; on three files.

The long one begins with the README's first line, `make demo`.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/docs")]

from pages import blocks  # noqa: E402

from tests.own_files import ASKED  # noqa: E402
from tests.reader import Reader, clean_clone, free_ports  # noqa: E402

BLOCKS = [one.text for one in blocks(ROOT / "docs/tutorial.md") if one.info == "sh tutorial"]


def commands(name: str) -> list[str]:
    """The page's commands in order, told for another file: its name, its columns, the workload's name."""
    _, file, options = ASKED[name]
    _, first, usual = ASKED["loans"]
    assert shlex.join(usual).replace("'", '"') in "".join(BLOCKS)
    text = "".join(BLOCKS).replace(shlex.join(usual).replace("'", '"'), shlex.join(options))
    text = text.replace(first, file).replace("loans", name)
    if name != "loans":  # the question of the page has the columns of loans; without any, all are missing values
        text = re.sub(r'\[\{"salary".*?\}\]', "[{}]", text)
    return [line for line in text.splitlines() if not (line.startswith("head") and file.endswith(".parquet"))]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Their home has the clone as `~/tidegate`, as the page says."""
    one = Reader(clean_clone(tmp_path / "tidegate"), tmp_path / "shell", free_ports())
    yield one
    one.leaves()


def logged(reader: Reader, kind: str) -> list[dict]:
    """The data of the journal's events of one kind."""
    return [json.loads(line)["data"] for line in reader.types(f"tidegate log --kind {kind} --json").splitlines()]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name", ["loans", pytest.param("tumours", marks=pytest.mark.soak), pytest.param("digits", marks=pytest.mark.soak)]
)
def test_every_command_of_the_tutorial_and_v1_1_serves_at_its_end(name: str, reader: Reader):
    told = {line: reader.types(line) for line in commands(name)}
    assert json.loads(reader.types("tidegate status --json"))["models"][0]["champion"]["version"] == "v1.1", told
    (promoted,) = logged(reader, "release.promoted")
    assert [one["name"] for one in promoted["release"]["challengers"]] == ["v1.1"]
    causes = {one["version"]: one["cause"] for one in logged(reader, "register.candidate")}
    assert (causes["v1"], causes["v1.1"]) == ("manual", "volume")
    (traffic,) = [out for line, out in told.items() if line.startswith("tidegate serve traffic")]
    assert " 0 failed" in traffic
    assert reader.leaves() == [0]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_readme_and_tutorial_from_their_first_line_to_their_last(reader: Reader):
    """`make test` is left out: this is one of its tests. What the README starts runs on beside the tutorial."""
    for block in blocks(ROOT / "README.md"):
        if block.info == "console soak":
            typed = re.findall(r"^\$ (.*)$", block.text, re.MULTILINE)
            reader.types("\n".join(line for line in typed if not line.startswith("make test")))
        elif block.info.startswith("sh "):
            reader.types(block.text)
    assert reader.leaves() == [0, 0]
    for text in BLOCKS:
        reader.types(text)
    assert json.loads(reader.types("tidegate status --json"))["models"][0]["champion"]["version"] == "v1.1"
    assert reader.leaves() == [0]
