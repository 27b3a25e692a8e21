"""The console in a real browser: a canary watched and stopped, a past moment found, a request followed; for everybody.

What was seen is kept in tests/browser/screenshots/, which git ignores.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.console_state import TOKEN, add_data_versions, in_canary, told_of_drift
from tidegate.console.serve import create_app
from tidegate.journal import views

pytestmark = pytest.mark.browser
HERE = Path(__file__).parent
SHOTS = HERE / "screenshots"
WIDE, NARROW = 1280, 400
QUICK = "/console/models/quick"
PAGES = {
    "models": "/console",
    "model": QUICK,
    "release": f"{QUICK}/releases/quick-r3",
    "aborted": f"{QUICK}/releases/quick-r2",
    "performance": f"{QUICK}/performance",
    "lineage": f"{QUICK}/lineage",
    "version": f"{QUICK}/versions/v2",
    "data": f"{QUICK}/data?a={'0' * 32}.dir&b={'1' * 32}.dir",
    "cost": f"{QUICK}/cost",
    "journal": "/console/journal?looks=1",
    "event": "/console/journal/quick/3",
    "at": "/console/at",
    "request": "/console/requests?id=q200",
    "refusal": "/console/models/none",
}
STREAMS = "() => document.getElementById('live').classList.contains('on')"


@pytest.fixture(scope="module")
def console(tmp_path_factory):
    """A console over a model whose v4 is in canary; its life goes on when a test says so."""
    import uvicorn

    world = in_canary(tmp_path_factory.mktemp("browser") / "state")
    told_of_drift(world, ["not_assessable", "none", "data_drift", "none"])
    add_data_versions(world.folder)
    config = uvicorn.Config(create_app(world.folder), port=0, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield SimpleNamespace(url=f"http://127.0.0.1:{port}", world=world)
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def page(browser, console):
    """One tab, which must not have met a fault at the end."""
    faults = []
    opened = browser.new_page(viewport={"width": WIDE, "height": 900}, base_url=console.url, color_scheme="light")
    opened.on("console", lambda told: faults.append(told.text) if told.type == "error" else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda asked: faults.append(asked.url) if not asked.url.startswith(console.url) else None)
    opened.set_default_timeout(60_000)
    SHOTS.mkdir(exist_ok=True)
    yield opened
    opened.close()
    # a page that refuses is an answer of 404 or 401, which the browser notes
    assert [fault for fault in faults if "Failed to load resource" not in fault] == []


def shot(page, name):
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def test_a_canary_is_watched_live_and_aborted_with_a_reason(page, console):
    console.world.looks(1)
    page.goto("/console")
    page.get_by_role("link", name="v4").click()
    page.wait_for_function(STREAMS)
    verdict = page.get_by_role("region", name="Verdict")
    assert "On its way. v4 is in canary with 20% of the answers" in verdict.inner_text()
    assert page.locator("#verdict .legend").inner_text().split() == ["v2", "80", "%", "v4", "20", "%"]
    split = page.get_by_role("figure").filter(has_text="errors on the split")
    before = split.locator(".figures").first.inner_text()
    summary = split.locator("summary")
    summary.click()
    page.get_by_label("Reason").fill("typed before the page was renewed")

    # the next weight, seen without a reload
    reached = console.world.until(lambda state: state.release["weight"] == 0.5)
    page.wait_for_function("() => document.querySelector('#verdict .legend').innerText.includes('v4 50 %')")
    assert reached.release["state"] == "canary"
    assert "with 50% of the answers" in page.get_by_role("status").inner_text()
    assert split.locator(".figures").first.inner_text() != before
    assert split.locator("details").evaluate("one => one.open")
    assert page.get_by_label("Reason").input_value() == "typed before the page was renewed"
    shot(page, "canary")

    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Token").fill("not the token")
    page.get_by_role("button", name="Abort").click()
    assert "the token is not this console's" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Token").input_value() == ""
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Reason").fill("complaints from the gate agents")
    page.get_by_role("button", name="Abort").click()
    page.wait_for_function("() => document.querySelector('#verdict').innerText.includes('Aborted')")
    assert "abort by ann: complaints from the gate agents" in verdict.inner_text()
    console.world.looks(1)
    page.wait_for_function("() => document.querySelector('#verdict .legend').innerText.includes('v2 100 %')")
    assert console.world.target.observe().split == (("v2", 1.0),)
    assert "there is nothing to decide" in page.locator("#orders").inner_text()
    shot(page, "aborted-by-a-person")


def test_what_served_at_a_past_moment_is_found(page, console):
    promoted = next(e for e in console.world.journal.read("quick") if e.kind == "release.promoted")
    page.goto("/console")
    page.get_by_role("link", name="What served").click()
    for moment, version in ((promoted.time - 60, "v1"), (promoted.time + 60, "v2")):
        page.get_by_label("Time (UTC)").fill(views.iso(moment)[:16])
        page.get_by_label("Model").fill("quick")
        page.get_by_role("button", name="Show").click()
        row = page.get_by_role("row", name="quick")
        assert row.get_by_role("cell").first.inner_text().startswith(f"{version} since")
        (known,) = views.status(console.world.folder, views.iso(moment))["models"]
        assert known["champion"]["version"] == version
    page.get_by_role("link", name=f"release.promoted {promoted.seq}").click()
    assert "is its content's" in page.get_by_role("main").inner_text()
    shot(page, "past-moment")


def test_a_requests_lineage_is_opened(page):
    page.goto("/console")
    page.get_by_role("link", name="Requests").click()
    page.get_by_label("Request id").fill("q200")
    page.get_by_role("button", name="Find").click()
    assert page.get_by_role("heading", name="Answered by quick v1").count() == 1
    picture = page.get_by_role("group", name="Lineage of the version that answered q200")
    assert {"hand-v1", "v1", "passed", "first, no release"} <= set(picture.locator("text").all_text_contents())
    shot(page, "request")
    picture.get_by_role("link", name="v1", exact=True).click()
    assert page.get_by_role("heading", level=1).inner_text() == "quick v1"


def test_the_journal_is_filtered_and_paged(page):
    page.goto("/console/journal")
    page.get_by_label("Kind begins with").fill("release.aborted")
    page.get_by_role("button", name="Show").click()
    rows = page.locator("tbody tr")
    assert rows.count() == 1
    assert "release.aborted" in rows.first.inner_text()
    page.get_by_label("Kind begins with").fill("")
    page.get_by_label("Looks and evaluations too").check()
    page.get_by_role("button", name="Show").click()
    first = rows.first.inner_text()
    page.get_by_role("link", name="Older").click()
    assert rows.first.inner_text() != first
    page.get_by_role("link", name="Newest").click()
    assert rows.first.inner_text() == first


def test_everything_is_reached_by_the_keyboard(page):
    page.goto(PAGES["release"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    page.goto("/console")
    page.get_by_label("Search").focus()
    page.keyboard.type("quick")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=quick*")
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.textContent.trim()"))
    assert {"Models", "Journal", "quick"} <= seen


@pytest.fixture(scope="module")
def axe():
    return (HERE / "axe" / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_nobody_is_shut_out(page, axe, name):
    """axe finds no serious fault, light and dark; nothing is cut off on a narrow screen."""
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto(PAGES[name])
        page.evaluate(axe)
        result = page.evaluate("axe.run({resultTypes: ['violations']})")
        for one in result["violations"]:
            if one["impact"] in ("serious", "critical"):
                found[scheme, one["id"]] = [(node["html"][:160], node["failureSummary"][:300]) for node in one["nodes"]]
        shot(page, f"{name}-{scheme}")
    page.set_viewport_size({"width": NARROW, "height": 900})
    wide = page.evaluate("document.documentElement.scrollWidth")
    shot(page, f"{name}-narrow")
    page.set_viewport_size({"width": WIDE, "height": 900})
    page.emulate_media(color_scheme="light")
    assert found == {}
    assert wide <= NARROW


def test_axe_would_find_a_fault(page, axe):
    page.goto("/console")
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<input><img src=\"x\">')")
    page.evaluate(axe)
    found = {one["id"] for one in page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]}
    assert {"label", "image-alt"} <= found
