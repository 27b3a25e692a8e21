"""At a terminal: colours, bars and a status that goes on; in a pipe none of it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from tests.console_state import in_canary
from tests.simulated_loop import World
from tidegate.cli.working import BARS, spark

MAIN = "from tidegate.cli import main; main()"
COLOUR = "\x1b[33m"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return in_canary(tmp_path_factory.mktemp("terminal") / "state")


class Terminal:
    """A process with a terminal as its stdout and stderr."""

    def __init__(self, *words: str, code: str = MAIN, **more: str) -> None:
        self._at, inside = pty.openpty()
        env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", **more}
        env.pop("CI", None)
        command = [sys.executable, "-c", code, *words]
        self.process = subprocess.Popen(command, stdout=inside, stderr=inside, env=env)
        os.close(inside)
        self.text = ""

    def until(self, words: str, within: float = 60.0) -> str:
        """Everything that was shown up to these words."""
        ends = time.monotonic() + within
        while words not in self.text:
            assert time.monotonic() < ends, self.text
            if select.select([self._at], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self._at, 65536).decode("utf-8", "replace")
                except OSError:  # its end is closed
                    assert words in self.text, self.text
        return self.text

    def end(self) -> int:
        """Ctrl-C; its exit status."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            os.close(self._at)


def test_status_goes_on_as_the_journal_grows(tmp_path, world):
    fork = world.fork(tmp_path / "state")
    terminal = Terminal("status", "--state", str(fork.folder), "--watch")
    seen = terminal.until("v4 against v2, canary")
    assert COLOUR in seen
    assert any(bar in seen for bar in BARS)
    fork.until(lambda state: state.release["state"] == "watch")
    terminal.until("v4 against v2, watch")
    assert terminal.end() == 130


def test_watched_by_a_machine_it_is_a_document_a_change(tmp_path, world):
    fork = world.fork(tmp_path / "state")
    command = [sys.executable, "-c", MAIN, "status", "--state", str(fork.folder), "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        first = json.loads(process.stdout.readline())
        fork.looks(1)
        second = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert first["models"][0]["time"] < second["models"][0]["time"]


def test_a_pipe_and_no_color_get_no_colours(tidegate, world):
    told = tidegate("status", "--state", world.folder)
    assert told.status == 0
    assert "\x1b" not in told.out
    terminal = Terminal("status", "--state", str(world.folder), NO_COLOR="1")
    assert "\x1b[3" not in terminal.until("cost:")
    terminal.process.wait(30)


@pytest.mark.parametrize("quiet", [False, True])
def test_what_takes_long_says_so_and_leaves_nothing(tmp_path, quiet):
    enough = tmp_path / "enough"
    code = f"""
import pathlib, time
from tidegate.cli import working
working.PATIENCE = 0.01
with working.working("counting sheep", quiet={quiet}) as show:
    show(3, 7)
    while not pathlib.Path({str(enough)!r}).exists():
        time.sleep(0.01)
print("done")
"""
    terminal = Terminal(code=code)
    if not quiet:
        terminal.until("counting sheep")
    enough.touch()
    assert ("counting sheep" in terminal.until("done")) is not quiet
    terminal.process.wait(30)


def test_what_is_quick_says_nothing():
    code = "from tidegate.cli.working import working\nwith working('a moment'):\n    pass\nprint('done')"
    assert "a moment" not in Terminal(code=code).until("done")


@pytest.mark.parametrize(
    ("values", "bars"),
    [([], ""), ([1.0], ""), ([None, 1.0], ""), ([0.0, 1.0], "▁█"), ([2.0, 2.0], "▁▁"), ([1.0, None, 0.0], "█ ▁")],
)
def test_bars_are_the_values(values, bars):
    assert spark(values) == bars


def test_of_many_values_the_newest_are_shown():
    assert spark([float(i) for i in range(100)], most=3) == "▁▅█"


def test_a_shell_completes_commands():
    env = {**os.environ, "_TIDEGATE_COMPLETE": "complete_bash", "COMP_WORDS": "tidegate rel", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['tidegate']; " + MAIN
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["release"]


def test_every_command_but_servers_takes_json():
    import typer

    from tidegate.cli.base import app

    def commands(at, path=()):
        for name, one in getattr(at, "commands", {}).items():
            yield from commands(one, (*path, name))
            if not getattr(one, "commands", {}):
                yield (*path, name), {option for param in one.params for option in param.opts}

    found = dict(commands(typer.main.get_command(app)))
    assert len(found) > 30
    without = {" ".join(path) for path, options in found.items() if not {"--json", "--_json"} & options}
    assert without == {"operator", "serve edge run"}


def test_a_watched_past_is_refused_in_one_line(tidegate, world):
    told = tidegate("status", "--state", world.folder, "--watch", "--at", "2013-07-02")
    assert (told.status, told.out) == (2, "")
    assert re.fullmatch(r"tidegate: --watch: got .*, takes nothing: a past moment does not change\n", told.err)
