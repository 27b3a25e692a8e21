"""Every page says what the journal says, and nothing that it does not."""

from __future__ import annotations

import html
import json
import re

import pytest

from tests.console_state import TOKEN
from tests.unit.console.conftest import Client
from tidegate.console.rendered import ASSETS
from tidegate.journal import views

QUICK = "/console/models/quick"
PAGES = (
    "/console", "/console?q=quick", "/console?health=moving", "/console/at", "/console/at?time=2013-07-02T00:00",
    "/console/journal", "/console/journal?model=quick&kind=release&looks=1", "/console/journal/quick/1",
    "/console/requests", "/console/requests?id=q200", QUICK, f"{QUICK}/releases/quick-r1", f"{QUICK}/releases/quick-r2",
    f"{QUICK}/releases/quick-r3", f"{QUICK}/performance", f"{QUICK}/lineage", f"{QUICK}/versions/v2", f"{QUICK}/data",
    f"{QUICK}/data?a={'0' * 32}.dir&b={'1' * 32}.dir", f"{QUICK}/cost",
)  # fmt: skip


def text(response):
    """What a reader sees, in one line."""
    body = response.text[response.text.index("<main") :]
    plain = re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", body, flags=re.S)
    return " ".join(html.unescape(plain).split())


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_there_and_needs_nothing_but_this_server(client, path):
    found = client.get(path)
    assert found.status_code == 200, text(found)
    assert "None" not in text(found)
    assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:|(src|href)=\"(https?:)?//", found.text)
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for asset in re.findall(r'"(/console/static/[^"?]+)', found.text):
        assert asset.rpartition("/")[2] in ASSETS
        assert client.get(asset).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/console/models/none", f"{QUICK}/releases/quick-r9", f"{QUICK}/versions/v9", "/console/journal/quick/99999",
        "/console/requests?id=nobody", "/console/at?time=soon", "/console/journal?since=soon", f"{QUICK}/data?a=9&b=8",
        "/console/journal?before=x~y~z", "/console/models/none/releases/r", f"{QUICK}/versions/v1/card",
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_in_one_line(client, path):
    found = client.get(path)
    assert found.status_code == 404
    assert "Not found" in text(found)


def test_the_first_page_has_the_model_at_a_glance(client, lived):
    shown = text(client.get("/console"))
    release = lived.state.release
    for what in ("quick", "in release", "v2", "canary 20 %", "v2 80%, v4 20%", "manual", "28 Jul 2013 04:00"):
        assert what in shown
    assert release["weight"] == 0.2


def test_search_and_health_leave_out_what_does_not_match(client):
    assert "No model is like that" in text(client.get("/console?q=nothing"))
    assert "No model is like that" in text(client.get("/console?health=wrong"))
    assert "quick" in text(client.get("/console?q=qui+v2"))


@pytest.mark.parametrize("name", ["quick-r1", "quick-r2", "quick-r3"])
def test_a_release_shows_the_judges_own_numbers(client, lived, name):
    shown = text(client.get(f"{QUICK}/releases/{name}"))
    events = [e for e in lived.journal.read("quick") if e.kind.startswith("release.") and "release" in e.data]
    events = [event for event in events if event.data["release"]["name"] == name]
    last = [e.data["judgement"] for e in events if e.data.get("judgement") and e.data["judgement"]["checks"]][-1]
    for check in (one for one in last["checks"].values() if one["estimate"] is not None):
        assert f"{check['estimate']:+.4f}, between {check['lower']:+.4f} and {check['upper']:+.4f}" in shown
    counts = next(e.data["evidence"] for e in reversed(events) if e.data.get("evidence"))["places"]
    assert all(f"{place['counts']['requests']:,}" in shown for place in counts.values())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("quick-r1", "Promoted. v2 took the place of v1: proved not worse than the champion"),
        ("quick-r2", "Aborted. v2 stays: proved worse than the champion: loss"),
        ("quick-r3", "On its way. v4 is in canary with 20% of the answers"),
    ],
)
def test_the_verdict_is_one_plain_sentence(client, name, says):
    assert says in text(client.get(f"{QUICK}/releases/{name}"))


def test_only_the_open_release_can_be_decided(client):
    assert 'value="abort"' in client.get(f"{QUICK}/releases/quick-r3").text
    for ended in ("quick-r1", "quick-r2"):
        assert "<form" not in client.get(f"{QUICK}/releases/{ended}").text


@pytest.mark.parametrize("at", ["2013-07-01T00:00", "2013-07-02T00:00", "2013-07-03T12:00", "2013-07-05T04:00"])
def test_what_served_at_a_moment_is_what_status_says(client, lived, at):
    (known,) = views.status(lived.folder, at)["models"]
    shown = text(client.get(f"/console/at?time={at}&model=quick"))
    champion = known["champion"]
    assert (f"{champion['version']} since" if champion else "nothing yet") in shown
    if known["traffic"]:
        assert ", ".join(f"{version} {share:.0%}" for version, share in known["traffic"]["split"]) in shown
    whole = text(client.get(f"/console/at?time={at}"))
    assert (champion["version"] if champion else "nothing yet") in whole


def test_the_moment_names_the_event_that_made_it_so(client, lived):
    promoted = next(e for e in lived.journal.read("quick") if e.kind == "release.promoted")
    link = f"/console/journal/quick/{promoted.seq}"
    assert link in client.get(f"/console/at?time={views.iso(promoted.time)[:16]}&model=quick").text


def test_performance_and_drift_are_the_policys_own_looks(client, lived):
    shown = text(client.get(f"{QUICK}/performance"))
    looks = [
        e.data["event"]
        for e in lived.journal.read("quick")
        if e.kind == "trigger.evaluated" and e.data["event"]["kind"] == "metric"
    ]
    assert looks
    for look in looks:
        assert f"{look['value']:.4f} {look['lower']:.4f} {look['upper']:.4f} {look['labels']:,}" in shown
    assert re.search(r"data drift .* 2 none", shown)


def test_label_coverage_is_what_the_command_said_last(fork, lived):
    one = {"version": "v2", "by": "score", "value": "1", "matured": 4321, "share": 0.5, "delay_median": 7200.0}
    told = {"from": "2013-07-01T00:00:00Z", "to": "2013-07-08T00:00:00Z", "groups": [one]}
    (fork.folder / "joined").mkdir()
    (fork.folder / "joined" / "labels.json").write_text(json.dumps(told))
    shown = text(Client(fork.folder).get(f"{QUICK}/performance"))
    assert "v2 score 1 4,321 50.0 % 7,200 s" in shown


def test_lineage_leads_from_data_to_service(client):
    shown = client.get(f"{QUICK}/lineage").text
    for what in ("hand-v2", ">v2<", "r1 promoted", "r2 aborted", "to now"):
        assert what in shown


def test_a_request_leads_to_its_version(client):
    shown = text(client.get("/console/requests?id=q200"))
    assert "Answered by quick v1" in shown
    assert "q200/0 scored" in shown


def test_data_versions_differ_by_their_partitions(client):
    shown = text(client.get(f"{QUICK}/data?a={'0' * 32}.dir&b={'1' * 32}.dir"))
    assert "flights 1,000 2,000 flights/2013-07.parquet none none" in shown


def test_the_journal_pages_to_its_beginning(client, lived):
    path, seen = "/console/journal?model=quick&looks=1", []
    while path:
        page = client.get(path).text
        seen += [int(n) for n in re.findall(r'href="/console/journal/quick/(\d+)"', page)]
        older = re.search(r'rel="next" href="([^"]+)"', page)
        path = "/console/journal" + html.unescape(older[1]) if older else ""
    assert seen == list(range(lived.state.seq, 0, -1))


def test_an_event_is_shown_whole_and_its_hash_checked(client, fork):
    shown = text(client.get("/console/journal/quick/3"))
    assert "is its content's" in shown
    with fork.journal._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE events SET time = time + 1 WHERE seq = 3")
    assert "is not its content's" in text(Client(fork.folder).get("/console/journal/quick/3"))


def test_what_the_journal_holds_is_escaped(fork):
    console = Client(fork.folder)
    nasty = "<script>alert(1)</script>"
    assert console.order("quick-r3", order="abort", by=nasty, reason=f'"{nasty}').status_code == 303
    for path in ("/console/journal?model=quick", f"{QUICK}/releases/quick-r3", QUICK, "/console"):
        assert nasty not in console.get(path).text


def test_the_gauges_are_of_each_model(client):
    shown = client.get("/console/metrics").text
    assert 'tidegate_model_traffic_share{model="quick",version="v4"} 0.2' in shown
    assert 'tidegate_model_release_open{model="quick"} 1' in shown
    assert re.search(r'tidegate_model_champion_info\{model="quick",version="v2",digest="sha256:[0-9a-f]+"\} 1', shown)


def test_no_page_shows_the_token(client):
    assert not any(TOKEN in client.get(path).text for path in PAGES)
