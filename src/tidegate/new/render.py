"""A proposal as the text of its files. Pure but for the templates that it reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any

from tidegate.new.propose import Proposal, lightgbm, settings
from tidegate.validate.contract import Column, Guard

WIDTH = 120
UNITS = {"days": 86400, "hours": 3600, "minutes": 60}
FILES = {
    "src/{name}/__init__.py": "__init__.py.j2",
    "src/{name}/source.py": "source.py.j2",
    "src/{name}/contract.py": "contract.py.j2",
    "src/{name}/views.py": "views.py.j2",
    "src/{name}/workload.py": "workload.py.j2",
    "src/{name}/feature_repo/feature_store.yaml": "feature_store.yaml.j2",
    "src/{name}/feature_repo/{name}_views.py": "feature_views.py.j2",
    "k8s/models/{model}.yaml": "model.yaml.j2",
    "tests/unit/{name}/conftest.py": "conftest.py.j2",
    "tests/unit/{name}/test_{name}.py": "test.py.j2",
}
"""Template by the place of what it makes."""


def model_name(name: str) -> str:
    """The model's name, as Kubernetes takes it."""
    return name.replace("_", "-").strip("-")


def render(made: Proposal, file: str) -> dict[str, str]:
    """Every file by its path from the project's folder; `file` is the name of the data's file."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tidegate.new"), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined, autoescape=False,  # noqa: S701 - Python and YAML, no page
    )  # fmt: skip
    environment.filters |= {"quoted": _quoted, "tuple": _tuple, "wrapped": _wrapped, "comment": _comment}
    values = _values(made, file)
    places = {path.format(name=made.name, model=values["model"]): template for path, template in FILES.items()}
    return {path: environment.get_template(template).render(values) for path, template in places.items()}


def history_features(made: Proposal) -> tuple[str, ...]:
    """The features of the windows, as `views.py` names them."""
    days = made.window.days
    return tuple(name for of in ("all", *made.histories) for name in (f"{of}_rate_{days}d", f"{of}_rows_{days}d"))


def _values(made: Proposal, file: str) -> dict[str, Any]:
    categories = [one for one in made.features if one.category]
    slices = [one.name for one in categories if len(one.values) <= 10]
    numbers = tuple(one.name for one in made.features if not one.category)
    return {
        **{one.name: getattr(made, one.name) for one in fields(made) if one.name != "increase"},
        **settings(made),
        "file": _comment(file),
        "model": model_name(made.name),
        "label_raw": made.label,
        "label_after": _span(made.shape.label_after),
        "left_out": [one for one in made.others if one.why_not],
        "columns": [_column(column) for column in made.columns],
        "table_key": made.table.key,
        "row_key": "row_id" if made.entity else made.key,
        "days": made.window.days,
        "categories": categories,
        "numbers": numbers,
        "numbers_text": _wrapped(numbers, len("NUMBERS = ")),
        "history_text": _wrapped(history_features(made), len("HISTORY = ")),
        "slices": _dict({name: _quoted(name) for name in slices}),
        "gate_slices": f"[{', '.join(slices[:2])}]",
        "lightgbm": _dict({name: f"{value:g}" for name, value in lightgbm(made).items()}),
        "keys": _dict({key: key for key in made.histories}),
        "views": f"[{', '.join(f'{of}_history' for of in ('all', *made.histories))}]",
        "per_day": f"{made.per_day:.0f}",
    }


def _column(column: Column) -> str:
    """``Column("age", "number", low=0.0, high=120.0, guard=NUMBER)``: what differs from the defaults."""
    told = [_quoted(column.name), _quoted(column.kind)]
    for one in fields(column)[2:]:
        value = getattr(column, one.name)
        if value != one.default:
            told.append(f"{one.name}={_guard(value) if isinstance(value, Guard) else _value(value)}")
    return f"Column({', '.join(told)})"


def _guard(guard: Guard) -> str:
    return "CATEGORY" if guard.new_values is not None else "NUMBER"


def _value(value: object) -> str:
    return _tuple(value) if isinstance(value, tuple) else repr(value) if not isinstance(value, str) else _quoted(value)


def _span(span: timedelta) -> str:
    """``timedelta(days=1)``: in the largest unit that has it whole."""
    seconds = span.total_seconds()
    unit = next((name for name, size in UNITS.items() if seconds % size == 0), "seconds")
    return f"timedelta({unit}={seconds / UNITS.get(unit, 1):g})"


def _quoted(value: object) -> str:
    """A text or a number as Python writes it."""
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str) -> str:
    """A text that may stand in a comment or a docstring."""
    return " ".join(text.split()).replace("\\", "/").replace('"', "'")


def _tuple(values: Sequence[str]) -> str:
    return f"({', '.join(map(_quoted, values))}{',' if len(values) == 1 else ''})"


def _dict(values: dict[str, str]) -> str:
    return "{" + ", ".join(f"{_quoted(name)}: {value}" for name, value in values.items()) + "}"


def _wrapped(values: Sequence[str], before: int, inside: int = 0) -> str:
    """A tuple of texts; over several lines where it does not fit behind `before` characters and a comma.

    `inside`: how far the line is indented that it begins on.
    """
    if before + len(_tuple(values)) + 1 <= WIDTH:
        return _tuple(values)
    indent = " " * (inside + 4)
    lines: list[list[str]] = [[]]
    for value in values:
        if len(indent + f"*{_tuple([*lines[-1], value])},") > WIDTH:
            lines.append([])
        lines[-1].append(value)
    return "\n".join(["(", *(f"{indent}*{_tuple(line)}," for line in lines), f"{indent[4:]})"])
