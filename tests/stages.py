"""The steps of a run by hand, `tidegate STEP --params FILE --root DIR`, as a workflow and a person call them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def stages(params: Path, root: Path, *words: str) -> str:
    """Run these steps in order; AssertionError with what a step said when it failed or its gate refused."""
    said = ""
    for word in words:
        command = (sys.executable, "-m", "tidegate.cli", word, "--params", str(params), "--root", str(root))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        said += done.stdout
        assert done.returncode == 0, f"tidegate {word}: {done.stdout}{done.stderr}"
    return said
