"""MLflow's aliases `champion` and `challenger`, made to say what the journal says. Does I/O.

``python -m tidegate.register.aliases STATE MODEL [STATE MODEL ...]`` compares and repairs, and prints what they are
then, a line a model; importing MLflow takes seconds, so the controller starts it as a process
(`tidegate.controller.mirror`). A version that MLflow lacks, since MLflow failed when it was registered, is told to it
again.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import PlatformError
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import open_journal
from tidegate.release.stages import ENDED
from tidegate.train.model_file import folder_name

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PATIENCE = 60.0
"""Seconds for which a run that has written its event may still be telling MLflow of its version."""

Aliases = Mapping[str, str]
"""Digest by alias."""


def aliases_of(state: ModelState) -> dict[str, str]:
    """What the aliases must be: the champion, and while a release is open its challengers.

    A second challenger of an A/B/C release is `challenger-2`, and so on. One that is quarantined is none any more.
    """
    found = {"champion": state.champion.digest} if state.champion else {}
    release = state.release
    if release is None or release["state"] in (*ENDED, "watch"):
        return found
    digests = [one["digest"] for one in release["challengers"] if one["digest"] not in state.quarantined]
    return found | {f"challenger-{n}" if n > 1 else "challenger": digest for n, digest in enumerate(digests, 1)}


def repair(folder: Path, model: str, patience: float = PATIENCE) -> dict[str, str]:
    """Make MLflow's aliases of `model` those of the journal, as often as it changes meanwhile; returns them.

    Waits for the runs that registered these versions: they may still be telling MLflow. Raises PlatformError when it
    does not take a version.
    """
    from tidegate.register import registry

    registry.load()
    deadline, journal = time.monotonic() + patience, open_journal(folder)
    try:
        while True:
            state = fold(journal.read(model))
            wanted = aliases_of(state)
            if _at_it(state, wanted) and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            client = registry.client_of(folder)
            _tell(client, folder, state, wanted)
            _make(client, model, wanted)
            if aliases_of(fold(journal.read(model, state.seq), state)) == wanted:
                return wanted
    finally:
        journal.close()


def _at_it(state: ModelState, wanted: Aliases) -> bool:
    """Whether a run that registered one of the versions has not ended."""
    running = {run.name for run in state.running}
    return any(state.versions[digest]["run"] in running for digest in wanted.values())


def _tell(client: MlflowClient, folder: Path, state: ModelState, wanted: Aliases) -> None:
    """Tell MLflow of the versions that it lacks."""
    from tidegate.register import registry
    from tidegate.register.cards import card_path

    for digest in set(wanted.values()) - _numbers(client, state.model).keys():
        card, files = card_path(digest, folder), folder / "models" / folder_name(digest)
        registry.tell_again(folder, state.model, state.versions[digest], files, card if card.is_dir() else None)
    if lacking := set(wanted.values()) - _numbers(client, state.model).keys():
        raise PlatformError(f"MLflow has no version of {state.model} with digest {', '.join(sorted(lacking))}")


def _numbers(client: MlflowClient, model: str) -> dict[str, str]:
    """MLflow's own number of each version by digest."""
    found = client.search_model_versions(f"name = '{model}'")
    return {version.tags["digest"]: str(version.version) for version in found if "digest" in version.tags}


def _make(client: MlflowClient, model: str, wanted: Aliases) -> None:
    """Set and delete what differs; aliases of other names are a person's own and stay."""
    if not wanted:
        return
    numbers = _numbers(client, model)
    held = {alias: str(number) for alias, number in client.get_registered_model(model).aliases.items()}
    for alias, digest in wanted.items():
        if held.get(alias) != numbers[digest]:
            client.set_registered_model_alias(model, alias, numbers[digest])
    for alias in held.keys() - wanted.keys():
        if alias.partition("-")[0] in ("champion", "challenger"):
            client.delete_registered_model_alias(model, alias)


def main(words: Sequence[str]) -> int:
    """Repair each (folder, model) at a low priority; a JSON line each, with its aliases or why it has not got them."""
    os.nice(10)
    failed = 0
    for folder, model in zip(words[::2], words[1::2], strict=True):
        try:
            told: Mapping[str, object] = {"aliases": repair(Path(folder), model)}
        except Exception as error:  # noqa: BLE001 - MLflow raises many kinds, and all are told
            traceback.print_exc()
            failed, told = failed + 1, {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        print(json.dumps({"model": model, **told}), flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
