"""Run ids from keys: the same key gives the same id, and an id is a safe file name."""

from __future__ import annotations

import hashlib
import re


def run_id(key: str) -> str:
    """`key` itself where it is a safe name of at most 63 characters, else ``run-`` and a digest of it."""
    if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", key):
        return key
    return "run-" + hashlib.sha256(key.encode()).hexdigest()[:16]
