"""The state folder of one laptop: made, locked and given its token before anything starts."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import IO

from tidegate.errors import UserError

LEAST_FREE = 256 * 2**20
"""Bytes that a state folder's disk must have free before anything is started in it."""


def prepare(state: Path) -> Path:
    """Make the folder and its token (0600) where they are not there; returns the folder's absolute path.

    Raises UserError when it cannot be written or its disk is (nearly) full; nothing is left behind then.
    """
    state = state.resolve()
    existing = next(folder for folder in (state, *state.parents) if folder.exists())
    if not existing.is_dir():
        raise UserError(f"--state {state}", f"{existing} is a file", "a folder that can be made or written")
    if (free := shutil.disk_usage(existing).free) < LEAST_FREE:
        raise UserError(
            f"--state {state}", f"{free >> 20} MiB free on its disk", f"at least {LEAST_FREE >> 20} MiB free"
        )
    try:
        state.mkdir(parents=True, exist_ok=True)
        _make_token(state / "token")
    except OSError as error:
        raise UserError(f"--state {state}", error.strerror, "a folder that can be made or written") from None
    return state


def lock(state: Path) -> IO[str]:
    """Hold the state folder for this process; UserError when another `tidegate up` holds it.

    The lock goes with the process, also when it is killed. Keep the returned file open.
    """
    handle = (state / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise UserError(f"--state {state}", "in use by another `tidegate up`", "a state folder of its own") from None
    return handle


def token(state: Path) -> str:
    """The bearer token of this state folder."""
    try:
        return (state / "token").read_text().strip()
    except FileNotFoundError:
        raise UserError(f"--state {state}", "no token in it", "the state folder of a running `tidegate up`") from None


def _make_token(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))
