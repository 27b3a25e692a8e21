"""Which code ran: the commit of the repository that a run works in, and the platform's own version. Does I/O."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any


def code_version(folder: Path) -> dict[str, Any]:
    """``{"commit", "changed", "tidegate"}``: git's commit of `folder`, whether tracked files differ, our version.

    `commit` is None and `changed` false where there is no git or no repository, as in a component image: there the
    version of the package says which code it was.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    changed = bool(commit and _git(folder, "status", "--porcelain", "--untracked-files=no"))
    return {"commit": commit or None, "changed": changed, "tidegate": metadata.version("tidegate")}


def _git(folder: Path, *words: str) -> str:
    """What git prints; empty when it fails or is not there."""
    try:
        done = subprocess.run(("git", "-C", folder, *words), capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
