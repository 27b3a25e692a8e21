"""What is read off act's output, on lines as act writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflows import act

TOLD = """[ci/style, types       ] ⭐ Run Main make lint
[ci/style, types       ]   | Contracts: 4 kept, 0 broken.
[ci/tests              ]   | \x1b[32m2749 passed\x1b[0m, 3 skipped\x1b[32m in 438.59s (0:07:18)\x1b[0m
[ci/model validation   ]   | 3 passed in 30.11s
[ci/model validation   ] 🏁  Job succeeded
"""


@pytest.fixture
def ran(monkeypatch, tmp_path) -> act.Ran:
    program = tmp_path / "act"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{TOLD}END\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(act, "ACT", program)
    return act.act(tmp_path, "ci.yml")


def test_the_closing_line_is_that_of_the_many_tests_without_colours(ran):
    assert ran.closing == "2749 passed, 3 skipped in 438.59s (0:07:18)"
    assert ran.failed
    assert list(ran.seconds) == ["ci/style, types", "ci/tests", "ci/model validation"]
    assert ran.said.splitlines()[1] == "Contracts: 4 kept, 0 broken."


def test_what_failed_is_named_and_its_run_is_the_one_that_ended():
    said = "200 passed in 7.58s\nE   assert 1 == 2\nFAILED tests/a.py::test_b - 1\n1 failed, 2748 passed in 438.59s"
    ran = act.Ran(said=said)
    assert ran.closing == "1 failed, 2748 passed in 438.59s"
    assert ran.broken == ["E   assert 1 == 2", "FAILED tests/a.py::test_b - 1"]


def test_a_run_without_tests_has_no_closing_line():
    assert act.Ran(said="nothing passed in time").closing == ""


def test_what_is_skipped_is_found_in_called_workflows_too(tmp_path):
    folder = tmp_path / ".github/workflows"
    Path(folder).mkdir(parents=True)
    (folder / "a.yml").write_text(
        "jobs:\n  one: {uses: ./.github/workflows/b.yml}\n"
        "  two: {steps: [{name: seen, run: x}, {name: pushed, if: '${{ !env.ACT }}', run: x}]}\n"
    )
    (folder / "b.yml").write_text("jobs:\n  three: {steps: [{uses: ./x, if: '${{ !env.ACT }}'}]}\n")
    assert act.skipped("a.yml", tmp_path) == ["b.yml: three: ./x", "a.yml: two: pushed"]
