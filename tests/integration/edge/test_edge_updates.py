"""Updates: taken when they are signed, newer and right; else the old one goes on answering."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from edges import DISTINCT, Updates, World, bundle_of, request_row, running, serving, spoil, zipf
from tiny_models import reference_score

from tidegate.register.models import sign
from tidegate.serve.edge.bundle import to_sign
from tidegate.train.model_file import canonical_json


def score(edge) -> float:
    answer = edge.ask(request_row(1))
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"][0]["score"]


def wanted(bias: float):
    return pytest.approx(reference_score(request_row(1), bias=bias), abs=1e-6)


def eventually(good, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def outcome(edge, text: str) -> None:
    edge.until(lambda status: status["update"] and text in status["update"]["outcome"])


@pytest.mark.parametrize("over_http", [False, True], ids=["folder", "http"])
def test_a_first_a_second_and_a_third_update_are_taken_while_it_answers(world: World, tmp_path: Path, over_http):
    world.build(tmp_path / "edge")
    world.build(tmp_path / "cloud")
    with serving(Updates(tmp_path / "cloud/bundle")) as updates:
        place = updates.url if over_http else str(tmp_path / "cloud/bundle")
        with running(tmp_path / "edge", "--updates", place) as edge:
            for bias in (0.2, 0.3, 0.4):
                version = world.promote(bias)
                world.build(tmp_path / "cloud")
                edge.until(lambda status, version=version: status["model"] == f"quick@{version}")
                assert score(edge) == wanted(bias)
        with running(tmp_path / "edge") as edge:
            assert score(edge) == wanted(0.4)
    assert len(list((tmp_path / "edge/var/installed").iterdir())) == 2


def test_what_was_cut_goes_on_where_it_was_cut(world: World, tmp_path: Path):
    world.build(tmp_path / "edge")
    world.log(np.random.default_rng(1).choice(DISTINCT, 5000, p=zipf()))
    world.promote(0.2)
    world.build(tmp_path / "cloud")
    size = bundle_of(tmp_path / "cloud")["files"]["head.db"]["bytes"]
    with serving(Updates(tmp_path / "cloud/bundle", limit=size // 4)) as updates:
        with running(tmp_path / "edge", "--updates", updates.url) as edge:
            edge.until(lambda status: status["model"] == "quick@v2")
            assert score(edge) == wanted(0.2)
        starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in updates.ranges]
    assert [start for start in starts if start >= size // 4] == sorted(starts)
    assert len(starts) >= 3


def test_killed_in_the_middle_of_an_update_it_starts_with_the_old_one_and_goes_on(world: World, tmp_path: Path):
    world.build(tmp_path / "edge")
    world.log(np.random.default_rng(1).choice(DISTINCT, 5000, p=zipf()))
    world.promote(0.2)
    world.build(tmp_path / "cloud")
    updates = Updates(tmp_path / "cloud/bundle", hold=threading.Event())
    with serving(updates):
        with running(tmp_path / "edge", "--updates", updates.url) as edge:
            assert updates.held.wait(20)
            assert score(edge) == wanted(0.1)
            eventually(lambda: any(p.stat().st_size for p in (tmp_path / "edge/var/incoming").glob("*.part")))
            edge.process.kill()
        updates.hold.set()
        updates.hold = None
        with running(tmp_path / "edge") as edge:
            assert score(edge) == wanted(0.1)
        with running(tmp_path / "edge", "--updates", updates.url) as edge:
            edge.until(lambda status: status["model"] == "quick@v2")
            assert score(edge) == wanted(0.2)
    assert updates.ranges


def test_killed_at_any_moment_it_answers_with_one_of_the_two(world: World, tmp_path: Path):
    world.build(tmp_path / "edge")
    draw, biases = random.Random(4), {"v1": 0.1}
    for step in range(5):
        bias = 0.2 + step / 10
        biases[world.promote(bias)] = bias
        world.build(tmp_path / "cloud")
        with running(tmp_path / "edge", "--updates", str(tmp_path / "cloud/bundle")) as edge:
            threading.Event().wait(draw.uniform(0, 0.06))
            edge.process.kill()
        with running(tmp_path / "edge") as edge:
            assert score(edge) == wanted(biases[edge.status()["model"].removeprefix("quick@")])


@pytest.mark.parametrize("name", ["model.onnx", "head.db"])
def test_a_flipped_byte_is_refused_and_the_right_bytes_are_taken_later(world: World, tmp_path: Path, name: str):
    world.build(tmp_path / "edge")
    world.log(np.arange(50))
    world.promote(0.2)
    world.build(tmp_path / "cloud")
    changed = bundle_of(tmp_path / "cloud")["files"][name]["sha256"]
    updates = Updates(tmp_path / "cloud/bundle", spoiled={f"/files/{changed}"})
    with serving(updates), running(tmp_path / "edge", "--updates", updates.url) as edge:
        outcome(edge, "not the bytes that were signed")
        assert score(edge) == wanted(0.1)
        updates.spoiled.clear()
        edge.until(lambda status: status["model"] == "quick@v2")


@pytest.mark.parametrize("part", ["manifest", "signature"])
def test_a_changed_manifest_or_signature_is_refused(world: World, tmp_path: Path, part: str):
    world.build(tmp_path / "edge")
    world.promote(0.2)
    world.build(tmp_path / "cloud")
    path = tmp_path / "cloud/bundle/bundle.json"
    text = json.loads(path.read_text())
    if part == "manifest":
        text["manifest"] = text["manifest"].replace('"max_age":604800.0', '"max_age":904800.0')
    else:
        text["signature"] = text["signature"][:-1] + ("0" if text["signature"][-1] != "0" else "1")
    path.write_text(canonical_json(text))
    with running(tmp_path / "edge", "--updates", str(path.parent)) as edge:
        outcome(edge, "not listed")
        assert score(edge) == wanted(0.1)


def test_a_key_that_is_not_listed_and_an_older_bundle_are_refused(world: World, tmp_path: Path):
    world.build(tmp_path / "cloud")
    shutil.copytree(tmp_path / "cloud", tmp_path / "first")
    world.promote(0.2)
    world.build(tmp_path / "edge")
    stranger = World(tmp_path / "stranger")
    stranger.promote(0.9)
    stranger.build(tmp_path / "theirs")
    with running(tmp_path / "edge", "--updates", str(tmp_path / "theirs/bundle")) as edge:
        outcome(edge, "not listed")
        assert score(edge) == wanted(0.2)
    with running(tmp_path / "edge", "--updates", str(tmp_path / "first/bundle")) as edge:
        outcome(edge, "older")
        assert score(edge) == wanted(0.2)


def test_keys_are_rotated_by_listing_two_at_once(world: World, tmp_path: Path):
    first = world.key
    world.keys = [first]
    world.build(tmp_path / "edge")
    old = tmp_path / "old"
    shutil.copytree(world.state / "keys", old)
    with running(tmp_path / "edge", "--updates", str(tmp_path / "cloud/bundle")) as edge:
        second = world.new_key()
        second_keys = tmp_path / "second"
        shutil.copytree(world.state / "keys", second_keys)

        def build_with(keys: Path, listed: list[str], bias: float) -> str:
            shutil.rmtree(world.state / "keys")
            shutil.copytree(keys, world.state / "keys")
            world.keys = listed
            version = world.promote(bias)
            world.build(tmp_path / "cloud")
            return f"quick@{version}"

        ahead = World(tmp_path / "ahead", keys=[second])
        shutil.copytree(second_keys, ahead.state / "keys")
        ahead.promote(0.9)
        ahead.build(tmp_path / "cloud")
        outcome(edge, "not listed")
        for keys, listed, bias in (
            (old, [first, second], 0.2),
            (second_keys, [first, second], 0.3),
            (second_keys, [second], 0.4),
        ):
            model = build_with(keys, listed, bias)
            edge.until(lambda status, model=model: status["model"] == model)
            assert score(edge) == wanted(bias)
        build_with(old, [first], 0.5)
        outcome(edge, "not listed")
        assert score(edge) == wanted(0.4)


def test_a_signed_bundle_that_fails_its_reference_rows_is_rolled_back(world: World, tmp_path: Path):
    world.build(tmp_path / "edge")
    world.promote(0.2)
    world.build(tmp_path / "cloud")
    bundle = tmp_path / "cloud/bundle"
    manifest = bundle_of(tmp_path / "cloud")
    wrong = (bundle / "files" / manifest["files"]["reference.json"]["sha256"]).read_text().replace("0.5", "0.4")
    manifest["files"]["reference.json"] = {"sha256": hashlib.sha256(wrong.encode()).hexdigest(), "bytes": len(wrong)}
    (bundle / "files" / manifest["files"]["reference.json"]["sha256"]).write_text(wrong)
    text = canonical_json(manifest)
    (bundle / "bundle.json").write_text(
        canonical_json({"manifest": text, "signature": sign(to_sign(text), world.state)})
    )
    with running(tmp_path / "edge", "--updates", str(bundle)) as edge:
        outcome(edge, "refused before")
        assert score(edge) == wanted(0.1)
        world.promote(0.3)
        world.build(tmp_path / "cloud")
        edge.until(lambda status: status["model"] == "quick@v3")


def test_a_damaged_bundle_on_its_own_disk_gives_way_to_the_one_before(world: World, tmp_path: Path):
    world.build(tmp_path / "edge")
    world.promote(0.2)
    world.build(tmp_path / "cloud")
    with running(tmp_path / "edge", "--updates", str(tmp_path / "cloud/bundle")) as edge:
        edge.until(lambda status: status["model"] == "quick@v2")
    spoil(tmp_path / "edge/var/current/model.onnx")
    with running(tmp_path / "edge") as edge:
        assert score(edge) == wanted(0.1)
    with running(tmp_path / "edge", "--updates", str(tmp_path / "cloud/bundle")) as edge:
        edge.until(lambda status: status["model"] == "quick@v2")
