"""The machine's table as a Mermaid state diagram: what docs/release.md shows is drawn from what decides."""

from __future__ import annotations

from tidegate.release.machine import NEXT, TABLE
from tidegate.release.stages import ENDED, STAGES


def diagram() -> str:
    """One arrow a row of the table; the stages that a release goes through stand together as `open`."""
    lines = ["stateDiagram-v2", "  [*] --> open", "  state open {", *(f"    {stage}" for stage in STAGES), "  }"]
    arrows = {(_source(state), _target(state, to), event) for states, event, to in TABLE for state in states}
    lines += [f"  {source} --> {target}: {event}" for source, target, event in sorted(arrows)]
    return "\n".join([*lines, *(f"  {state} --> [*]" for state in ENDED if state != "promoted"), ""])


def _source(state: str) -> str:
    return "open" if state in STAGES else state


def _target(state: str, to: str) -> str:
    """Where an arrow ends: the next stage is still `open`, and so is the same one."""
    return "open" if to in (NEXT, "same") else to
