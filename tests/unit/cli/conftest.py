from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))


@dataclass(frozen=True)
class Told:
    """What a command left: its exit status, stdout and stderr."""

    status: int
    out: str
    err: str


Tidegate = Callable[..., Told]


@pytest.fixture
def tidegate(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tidegate:
    """The command line in this process, from the repository's folder."""
    from tidegate.cli import main

    def run(*words: object) -> Told:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["tidegate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Told(int(ended.value.code or 0), out, err)

    return run
