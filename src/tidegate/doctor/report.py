"""What the doctor says: the level, each item with its evidence or its fix, and the machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tidegate.doctor import machine
from tidegate.doctor.levels import Looked, level_of, look
from tidegate.doctor.project import Project

SIGNS = {"ok": "ok  ", "warn": "warn", "fault": "FAULT"}


def examine(folder: Path) -> dict[str, Any]:
    """The report as a JSON document; UserError where there is no such folder."""
    looked, checked = look(Project(folder)), machine.check(folder)
    level = level_of(looked)
    return {
        "project": str(folder),
        "level": level,
        "score": {"held": sum(one.holds for one in looked), "of": len(looked)},
        "items": [_item(one) for one in looked],
        "next": next((one.item.fix for one in looked if not one.holds), None),
        "machine": [asdict(one) for one in checked],
        "machine_ok": all(one.state != "fault" for one in checked),
    }


def _item(one: Looked) -> dict[str, Any]:
    return {
        "level": one.item.level,
        "item": one.item.name,
        "asks": one.item.asks,
        "holds": one.holds,
        "evidence": list(one.evidence),
        "fix": None if one.holds else one.item.fix,
    }


def text(document: dict[str, Any]) -> str:
    """The report for the terminal."""
    level, score = document["level"], document["score"]
    said = "no level: nothing trains a model" if level is None else f"level {level} of 2"
    lines = [f"{document['project']}: {said}, {score['held']} of {score['of']} items"]
    for wanted in (0, 1, 2):
        lines.append(f"level {wanted}")
        for item in (one for one in document["items"] if one["level"] == wanted):
            lines.append(f"  {'yes' if item['holds'] else 'NO '} {item['item']}: {item['asks']}")
            lines += [f"        {one}" for one in item["evidence"]] or [f"        add it: {item['fix']}"]
    lines.append("this machine")
    for one in document["machine"]:
        lines.append(
            f"  {SIGNS[one['state']]} {one['name']}: {one['seen']}" + (f" ({one['fix']})" if one["fix"] else "")
        )
    return "\n".join(lines)
