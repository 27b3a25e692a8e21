"""Every metric of the dashboard and the alert rules is exported by what runs: service, gateway, controller."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.simulated_loop import candidate
from tidegate.console.exported import exported
from tidegate.console.reader import Reader
from tidegate.controller.operator import Server
from tidegate.journal.events import Draft
from tidegate.journal.store import open_journal
from tidegate.release.plan import Backend, Plan
from tidegate.targets.gatewayd import http

HERE = Path(__file__).parents[3] / "k8s" / "integrations"
RULES = yaml.safe_load((HERE / "prometheus" / "rules.yaml").read_text())
BOARD = json.loads((HERE / "grafana" / "dashboard.json").read_text())
WORDS = {"by", "on", "unless", "and", "or", "ignoring", "without", "bool", "group_left", "group_right", "offset"}


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for group in RULES["groups"] for rule in group["rules"])
    yield from (target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ()))
    for variable in BOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield re.fullmatch(r"label_values\((\w+), \w+\)", variable["query"]["query"])[1]


def names(expression: str) -> set[str]:
    """The metrics of an expression: what is neither a function, a label, a text nor a word of the language."""
    plain = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", re.sub(r'"[^"]*"', '""', expression))
    plain = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", " ", plain)
    return {name for name in re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", plain) if name not in WORDS}


def labels(expression: str) -> set[str]:
    """The labels that an expression names."""
    grouped = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression)
    matched = re.findall(r"[{,]\s*(\w+)\s*[=!]", expression)
    return {name.strip() for names_ in grouped for name in names_.split(",")} | set(matched)


def samples(*texts: str) -> dict[str, set[str]]:
    """The labels of every sample's name, as they are written."""
    found: dict[str, set[str]] = {}
    for line in "\n".join(texts).splitlines():
        if sample := re.match(r"([a-zA-Z_:][\w:]*)(\{.*\})? ", line):
            found.setdefault(sample[1], set()).update(re.findall(r'(\w+)="', sample[2] or ""))
    return found


@pytest.fixture
def running(target, state, digests) -> dict[str, set[str]]:
    """What service, gateway and controller export after some answers."""
    target.apply(Plan("flight-delay", (Backend("v1", digests["v1"], 1),), (("v1", 1.0),)))
    assert http(target.port, "/predict", "POST", b'{"rows": [{"distance": 1}], "at": 1372712400}')[0] == 200
    processes = target._record.alive
    (service,) = [one.port for one in processes if one.role not in ("gateway", "merge")]
    (admin,) = [one.admin_port for one in processes if one.role == "gateway"]
    journal = open_journal(state, create=True)
    first = candidate("v1")
    journal.append("m", [Draft("register.candidate", 1.0, first)], 0)
    served = {"version": "v1", "digest": first["digest"], "reason": "first_version"}
    traffic = {"split": [["v1", 1.0]], "mirrors": [], "release": ""}
    journal.append("m", [Draft("release.first", 1.0, served), Draft("serve.traffic", 1.0, traffic)], 1)
    operator = Server(lambda: True)
    operator.operator = SimpleNamespace(_cluster=SimpleNamespace(calls={("get", "Pod"): 3}))
    texts = [http(port, path)[2].decode() for port, path in ((service, "/metrics"), (admin, "/stats/prometheus"))]
    return samples(*texts, operator._metrics(), exported(Reader(state)))


def test_every_name_and_label_is_exported(running):
    asked = {expression: names(expression) for expression in expressions()}
    assert sum(map(len, asked.values())) > 30
    missing = {name for found in asked.values() for name in found if name not in running}
    assert missing == set()
    for expression, found in asked.items():
        known = {label for name in found for label in running[name]}
        assert labels(expression) <= known, expression


def test_alerts_are_told_apart_and_say_what_is_wrong():
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        told = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert told <= {"model", "service_name", "service_version"}
        assert rule["annotations"]["summary"]


def test_panels_lie_beside_each_other():
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('sum by (le, a) (rate(x_total{b=~"5.."}[5m])) / on (c) y > 0.5', {"x_total", "y"}),
        ("a unless on (model) b", {"a", "b"}),
        ("absent(gone)", {"gone"}),
        ("time() - min(z)", {"z"}),
    ],
)
def test_names_of_an_expression_are_found(expression, found):
    assert names(expression) == found
