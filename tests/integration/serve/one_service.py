"""One real service over a tiny model."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tidegate.targets.gatewayd import http
from tidegate.targets.processes import free_port, wait_until

TOKEN = "secret"


@contextlib.contextmanager
def served(model: Path, folder: Path, *more: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start it, logging into `folder`/rows; gives its port and the process; ends it with SIGTERM if it still runs."""
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(TOKEN)
    port = free_port()
    words = [
        sys.executable, "-m", "tidegate.serve.service", "--model-dir", str(model), "--name", "flight-delay",
        "--version", "v1", "--port", str(port), "--observations", str(folder / "rows"),
        "--token-file", str(folder / "token"), *more,
    ]  # fmt: skip
    with subprocess.Popen(words) as process:
        try:
            assert wait_until(lambda: http(port, "/readyz")[0] == 200, 30)
            yield port, process
        finally:
            process.terminate()
            process.wait(30)
