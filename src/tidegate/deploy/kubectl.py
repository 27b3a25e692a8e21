"""The API server through kubectl, with the rights of the kubeconfig: build, read, apply, delete. Does I/O."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

from tidegate.errors import PlatformError, UserError
from tidegate.orchestrators.local import one_line

Json = dict[str, Any]
SECONDS = 120.0
"""Longest that one call may take."""


class Server(Protocol):
    """What a deployment asks of an API server. Each method raises PlatformError where it is refused or not answered."""

    def get(self, objects: Sequence[Json]) -> list[Json]:
        """Those of the objects that are there, with who owns which field."""

    def labelled(self, resource: str, namespace: str, labels: str) -> list[Json]:
        """Every object of a resource with these labels."""

    def apply(self, objects: Sequence[Json], *, dry: bool) -> list[Json]:
        """Apply server-side, or see what that would give; the objects as they then are."""

    def delete(self, objects: Sequence[Json]) -> None:
        """Delete them; what is gone stays gone."""


class Kubectl:
    """The cluster that kubectl finds: KUBECONFIG, or the file in its usual place."""

    def __init__(self) -> None:
        if (found := shutil.which("kubectl")) is None:
            raise UserError("kubectl", "no such program on the PATH", "kubectl 1.30 or newer")
        self._program = found

    def build(self, folder: Path) -> list[Json]:
        """The objects of a kustomization; UserError where it is none."""
        if not folder.is_dir():
            raise UserError(str(folder), "no folder", "a folder with a kustomization.yaml")
        try:
            told = self._run("kustomize", str(folder))
        except PlatformError as error:
            raise UserError(str(folder), str(error), "a kustomization that builds") from None
        return [one for one in yaml.safe_load_all(told) if one]

    def get(self, objects: Sequence[Json]) -> list[Json]:
        """See `Server`."""
        words = ("get", "--ignore-not-found", "--show-managed-fields", "--output=json", "--filename=-")
        return _listed(self._run(*words, stdin=_stream(objects))) if objects else []

    def labelled(self, resource: str, namespace: str, labels: str) -> list[Json]:
        """See `Server`."""
        words = ("get", resource, f"--namespace={namespace}", f"--selector={labels}", "--output=json")
        return _listed(self._run(*words))

    def apply(self, objects: Sequence[Json], *, dry: bool) -> list[Json]:
        """See `Server`."""
        words = ["apply", "--server-side", "--force-conflicts", "--show-managed-fields", "--output=json"]
        words += ["--dry-run=server"] if dry else []
        return _listed(self._run(*words, "--filename=-", stdin=_stream(objects))) if objects else []

    def delete(self, objects: Sequence[Json]) -> None:
        """See `Server`."""
        if objects:
            self._run("delete", "--ignore-not-found", "--wait=false", "--filename=-", stdin=_stream(objects))

    def _run(self, *words: str, stdin: str | None = None) -> str:
        try:
            done = subprocess.run(
                (self._program, *words), input=stdin, capture_output=True, text=True, check=False, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            raise PlatformError(f"kubectl {words[0]}: no answer within {SECONDS:.0f} s") from None
        if done.returncode:
            raise PlatformError(f"kubectl {words[0]}: {_said(done.stderr)}")
        return done.stdout


def _said(text: str) -> str:
    """Kubectl's own words in one line, without the lines of its log."""
    lines = [line for line in text.splitlines() if not re.match(r"[IWEF]\d{4} \d\d:", line)]
    return one_line(" ".join(lines) or text)


def _stream(objects: Iterable[Json]) -> str:
    """A document each: of a List kubectl would check the fields itself, by a schema of everything."""
    return "\n---\n".join(json.dumps(one) for one in objects)


def _listed(told: str) -> list[Json]:
    """What kubectl printed: nothing, one object, or a list of them."""
    if not told.strip():
        return []
    found = json.loads(told)
    items: list[Json] = found["items"] if found["kind"].endswith("List") and "items" in found else [found]
    return items
