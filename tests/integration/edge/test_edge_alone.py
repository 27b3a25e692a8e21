"""An edge with no network at all: it answers, its head covers what the traffic's law says, it says how old it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from edges import DISTINCT, World, request_row, running, zipf
from tiny_models import reference_score

from tidegate.observations import Prediction, SegmentWriter
from tidegate.serve import edge_build
from tidegate.serve.edge.bundle import Fields

HERE = Path(__file__).parent


def test_in_a_namespace_without_network_it_answers_and_the_head_hits_as_zipf_says(world: World, tmp_path: Path):
    draw, law = np.random.default_rng(5), zipf()
    world.log(draw.choice(DISTINCT, 60_000, p=law))
    built = world.build(tmp_path / "edge")
    assert built.head["answers"] == world.head
    asked = draw.choice(DISTINCT, 20_000, p=law)
    bodies = [json.dumps({"rows": [request_row(rank) for rank in part]}) for part in asked.reshape(200, 100).tolist()]
    (tmp_path / "bodies").write_text("\n".join(bodies))
    words = (sys.executable, str(HERE / "alone.py"), str(tmp_path / "edge"), str(tmp_path / "bodies"))
    done = subprocess.run(("unshare", "--map-root-user", "--net", *words), capture_output=True, text=True, timeout=60)
    if "unshare failed" in done.stderr:
        pytest.skip("no network namespaces here")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["network"] == "ENETUNREACH"
    assert set(found["statuses"]) == {200}
    wanted = [reference_score(request_row(rank)) for rank in asked.tolist()]
    np.testing.assert_allclose(found["scores"], wanted, atol=1e-6)
    rows = found["status"]["rows"]
    predicted = law[: world.head].sum()
    assert rows["precomputed"] + rows["computed"] == len(asked)
    assert abs(rows["precomputed"] / len(asked) - predicted) < 0.02
    assert abs(built.head["share"] - predicted) < 0.02
    assert found["status"]["update"]["outcome"].startswith("not reached")
    assert found["status"]["observations"] == {"waiting": len(asked), "dropped": 0}
    assert found["ended"] == 0


def test_every_answer_has_the_headers_of_a_service_and_its_age_and_past_the_bound_is_refused(world, tmp_path):
    world.max_age = "1h"
    built = world.build(tmp_path / "edge")
    with running(tmp_path / "edge") as edge:
        answer = edge.ask(**{"x-request-id": "abc"})
        assert answer.json() == {"model": "quick@v1", "rows": [{"score": answer.json()["rows"][0]["score"]}]}
        assert answer.headers["x-request-id"] == "abc"
        assert (answer.headers["x-tidegate-model"], answer.headers["x-tidegate-digest"]) == ("quick@v1", built.digest)
        assert 0 <= int(answer.headers["x-tidegate-age"]) < 600
    world.max_age = "1ms"
    world.build(tmp_path / "edge")
    with running(tmp_path / "edge") as edge:
        answer = edge.ask()
        assert (answer.status_code, answer.json()["error"][:6]) == (503, "stale:")
        assert int(answer.headers["x-tidegate-age"]) >= 0
        assert edge.status()["stale"]
        world.max_age = "1h"
        world.build(tmp_path / "next")
        assert world.build(tmp_path / "next").bundle > built.bundle
    with running(tmp_path / "edge", "--updates", str(tmp_path / "next/bundle")) as edge:
        edge.until(lambda status: not status["stale"])
        assert edge.ask().status_code == 200


def test_it_runs_on_the_standard_library_numpy_and_onnxruntime_alone(world: World, tmp_path: Path):
    world.build(tmp_path / "edge")
    code = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder / "lib"))
import tidegate, numpy, onnxruntime
theirs = set(sys.modules)
from tidegate.serve.edge.run import main
from tidegate.serve.edge.installed import Installed
from tidegate.serve.edge.kept import Kept
from tidegate.serve.edge.updates import Edge
edge = Edge(Installed(folder), Kept(folder / "var/edge.db"))
edge.serving.answer(b'{"rows":[{}]}')
assert str(folder) in tidegate.__file__
new = {name.partition(".")[0] for name in set(sys.modules) - theirs} - set(sys.stdlib_module_names)
print(sorted(new - {"numpy", "onnxruntime"}))
"""
    done = subprocess.run((sys.executable, "-c", code, str(tmp_path / "edge")), capture_output=True, text=True)
    assert done.stdout.strip() == "['tidegate']", done.stdout + done.stderr


def test_an_entity_of_the_head_is_answered_by_key_and_another_one_is_not_known(world, tmp_path, monkeypatch):
    """Made up: which fields an entity has; a workload says so otherwise."""
    monkeypatch.setattr(edge_build, "_fields", lambda *_: Fields(("tail",), ("dep hour",)))
    writer = SegmentWriter(world.state / "observations/predictions", "v1-a", background=False)
    for number, (tail, distance) in enumerate((("A", 1.0), ("B", 2.0), ("A", 3.0))):
        row = (f"{number}/0", float(number), 0.0, "v1", "d", None, None, None, 0.5, False, 1.0, [distance, "UA", 7.0])
        writer.append(Prediction(*row, {"tail": tail}, None, "carrier" if tail == "B" else None))
    writer.close()
    world.build(tmp_path / "edge")
    with running(tmp_path / "edge") as edge:
        asked = [{"tail": "A", "dep hour": 7}, {"tail": "B", "dep hour": 7.0}]
        found = httpx.post(f"{edge.url}/predict", json={"keys": asked}).json()["rows"]
        newest = {"distance": 3.0, "carrier": "UA", "dep hour": 7}
        assert found[0] == {"score": pytest.approx(reference_score(newest), abs=1e-6)}
        assert found[1]["fallback"] == "carrier"
        for other in ({"tail": "A", "dep hour": 8}, {"tail": "C", "dep hour": 7}):
            refused = httpx.post(f"{edge.url}/predict", json={"keys": [other]})
            assert (refused.status_code, "keys[0]" in refused.json()["error"]) == (404, True)
        assert edge.status()["rows"] == {"precomputed": 2, "computed": 0}


WRONG = [
    ("GET", "/predict", None, 405),
    ("POST", "/readyz", b"", 405),
    ("GET", "/none", None, 404),
    ("POST", "/predict", b" " * (2**20 + 1), 413),
    ("POST", "/predict", b"{", 400),
    ("GET", "/livez", None, 200),
]


def test_wrong_use_is_answered_as_by_a_service(world, tmp_path):
    world.build(tmp_path / "edge")
    with running(tmp_path / "edge") as edge:
        for method, path, body, status in WRONG:
            answer = httpx.request(method, edge.url + path, content=body)
            assert answer.status_code == status
            assert ("error" in answer.json()) == (status != 200)
            assert answer.headers["x-tidegate-model"] == "quick@v1"
