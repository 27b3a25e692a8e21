"""Somebody who types the blocks of the docs: in a clean clone, into one shell, servers into further terminals."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from demo.story import serving
from tidegate.targets.processes import listen

ROOT = Path(__file__).resolve().parents[1]
SERVER = re.compile(r"^tidegate (?:up|console|serve edge run) .*$", re.MULTILINE)
"""Commands that run until Ctrl-C, and whose first line says that they answer."""
PORTS = ("8080", "8081")
"""Ports that the docs name; a test takes free ones, since others may run here."""
KEEP = '; { export -p; printf "cd %q\\n" "$PWD"; } > "$0"'


def clean_clone(folder: Path) -> Path:
    """What git tracks, as it is in this tree, in a new clone; its environment is the one that runs the test.

    `.venv` is a folder of links with a `.synced` of its own, so that `make setup` finds it made and changes nothing.
    """
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    told = ("git", "diff", "--name-only", "-z", "HEAD")
    changed = subprocess.run(told, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in changed.rstrip("\0").split("\0") if changed else ():
        (folder / name).unlink(missing_ok=True)
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    for one in Path(sys.prefix).iterdir():
        if one.name != ".synced":
            (folder / ".venv" / one.name).symlink_to(one)
    (folder / ".venv/.synced").touch()
    return folder


def free_ports() -> dict[str, str]:
    """A free port for each one that the docs name."""
    with contextlib.ExitStack() as stack:
        return {name: str(stack.enter_context(listen()).getsockname()[1]) for name in PORTS}


class Reader:
    """`clone` is where the code is; variables and folder stay from one block to the next, as in one shell."""

    def __init__(self, clone: Path, memory: Path, ports: dict[str, str]) -> None:
        self.clone, self.memory, self.ports = clone, memory, ports
        self.servers: list[subprocess.Popen[str]] = []
        self.memory.write_text(f"cd {clone}\n")

    def types(self, text: str, wanted: int = 0) -> str:
        """All of a block; what it says in the foreground. Its last command must end with `wanted`."""
        said = ""
        for name, port in self.ports.items():
            text = re.sub(rf"\b{name}\b", port, text)
        for part in re.split(rf"({SERVER.pattern})", text, flags=re.MULTILINE):
            if SERVER.fullmatch(part):
                self._starts(part)
            elif part.strip():
                said += self._runs(part, wanted)
        return said

    def _runs(self, text: str, wanted: int) -> str:
        done = self._shell(text.rstrip() + ("" if wanted else KEEP), stderr=subprocess.STDOUT)
        said = done.communicate(timeout=800)[0]
        assert done.returncode == wanted, f"{text}\n{said}"
        return said

    def _starts(self, line: str) -> None:
        """In another terminal, until it answers; `tidegate up` until the champion does."""
        server = self._shell("exec " + line)
        self.servers.append(server)
        assert server.stdout
        address = re.search(r" at (http://[^\s,]+)", server.stdout.readline())
        assert address, line
        if line.startswith("tidegate up "):
            serving(address[1], 240)

    def _shell(self, text: str, **more: int) -> subprocess.Popen[str]:
        words = ["bash", "-euo", "pipefail", "-c", f'source "$0"\n{text}', str(self.memory)]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "VIRTUAL_ENV"))}
        env |= {
            "HOME": str(self.clone.parent),
            "PATH": f"{self.clone}/.venv/bin:{os.environ['PATH']}",
            "PYTHONPATH": f"{self.clone}/src:{self.clone}",  # else the code that the environment was made for
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        }
        return subprocess.Popen(words, cwd=self.clone, env=env, stdout=subprocess.PIPE, text=True, **more)

    def leaves(self) -> list[int]:
        """Ctrl-C in every other terminal; how each ended."""
        ended = []
        for server in self.servers:
            server.send_signal(signal.SIGINT)
            ended.append(server.wait(60))
            assert server.stdout
            server.stdout.close()
        self.servers.clear()
        return ended
