"""Model cards on disk, beside the model versions: ``STATE/cards/<hex>/card.md`` and ``card.html``. Does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.evaluate.card import card, to_html, to_markdown
from tidegate.ingest.disk import atomic_file
from tidegate.train.model_file import folder_name

MARKDOWN, PAGE = "card.md", "card.html"


def card_path(digest: str, state: Path) -> Path:
    """The folder of the card of the model with this digest."""
    return state / "cards" / folder_name(digest)


def store_card(name: str, gate: Mapping[str, Any], training: Mapping[str, Any], state: Path) -> Path | None:
    """Write the card of a gate's answer, passed or refused, and return its folder; None where no gate was asked.

    The card of a version stays: a later run that comes to the same files and is refused has met another champion.
    """
    if "checks" not in gate:
        return None
    folder = card_path(training["digest"], state)
    version = (state / "models" / folder_name(training["digest"])).is_dir()
    if version and gate["verdict"] != "passed" and (folder / PAGE).is_file():
        return folder
    sections = card(name, gate, training)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in ((MARKDOWN, to_markdown(sections)), (PAGE, to_html(sections))):
        with atomic_file(folder / file) as made:
            made.write_text(text, encoding="utf-8")
    return folder
