"""What releases answer the model gate, through the real controller: told in the status, alerted of once, replayed."""

from __future__ import annotations

import json

from tests.alert_receiver import receiving
from tests.simulated_loop import World, quick
from tidegate.controller.webhook import Webhook
from tidegate.journal import views
from tidegate.journal.fold import fold
from tidegate.journal.replay import replay_state


def test_a_gate_whose_candidates_turn_out_worse_is_reported_within_ten_releases(tmp_path):
    bad = frozenset(f"v{number}" for number in range(3, 13))
    with receiving() as receiver:
        model = quick(alerts={"webhook": receiver.url})
        world = World(tmp_path, model, bad=bad, per_look=160, alerts=Webhook(receiver.url))
        world.start()
        world.hand_in("v1")
        world.looks(1)
        for number in range(2, 13):
            world.hand_in(f"v{number}")
            world.until(lambda state: state.release and state.release["state"] not in ("shadow", "canary"))
            if not views.describe(world.state)["agreement"]["holds"]:
                break
        world.looks(4)
    told = views.describe(world.state)["agreement"]
    assert (told["agreed"], told["disagreed"], told["holds"]) == (1, 3, False)
    assert told["since"] == world.state.release["name"]
    (alert,) = [one for one in receiver.alerts.values() if one["labels"]["alertname"] == "TidegateAgreement"]
    assert alert["annotations"]["description"] == told["sentence"]
    assert len(receiver.requests) == 1
    assert f"gate: {told['sentence']}" in views.status_text(views.status(tmp_path))
    assert json.loads(json.dumps(views.status(tmp_path)))["models"][0]["agreement"] == told
    assert replay_state(tmp_path).fault == ""


def test_a_regression_after_the_promotion_takes_its_agreement_back(tmp_path):
    watched = {**quick().spec.release.model_dump(mode="json", by_alias=True), "watch": "6d"}
    world = World(tmp_path, quick(release=watched))
    world.start()
    world.hand_in("v1")
    world.looks(1)
    world.hand_in("v2")
    promoted = world.until(lambda state: state.release and state.release["state"] == "watch")
    assert [one["answer"] for one in promoted.verdicts] == ["agreed"]
    events = world.journal.read("quick")
    world.bad = frozenset({"v2"})
    world.until(lambda state: state.release["state"] == "rolled_back")
    assert [one["answer"] for one in world.state.verdicts] == ["disagreed"]
    assert [one["answer"] for one in fold(events).verdicts] == ["agreed"]


def test_a_persons_word_says_nothing_of_the_gate(tmp_path):
    from tidegate.controller.orders import order

    world = World(tmp_path)
    world.start()
    world.hand_in("v1")
    world.looks(1)
    world.hand_in("v2")
    world.looks(1)
    order(tmp_path, "quick-r1", {"command": "abort", "by": "ann", "reason": "no"})
    assert [one["answer"] for one in world.state.verdicts] == ["undecided"]
