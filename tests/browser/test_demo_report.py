"""The demo's report in a real browser: what its plots and captions say is what the journal says."""

from __future__ import annotations

import html
import json
from types import SimpleNamespace

import pytest

from tidegate.journal.store import open_journal

pytestmark = pytest.mark.browser

PLOTS = """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
    meta: plot.layout.meta, text: plot.layout.font.color, width: plot.getBoundingClientRect().width,
    room: plot.parentElement.getBoundingClientRect().width,
    shapes: (plot.layout.shapes || []).length, caption: plot.parentElement.querySelector('figcaption').textContent,
    drawn: plot.querySelectorAll('path.js-line, path.point').length,
    traces: plot.data.map(t => ({meta: t.meta, name: t.name, x: t.x, y: t.y, text: t.text, fill: t.fillcolor})),
}))"""

SETTLED = """width => {
    const text = getComputedStyle(document.documentElement).getPropertyValue('--text').trim();
    return innerWidth === width && [...document.querySelectorAll('.js-plotly-plot')].every(
        plot => plot.layout.font.color === text && Math.abs(plot._fullLayout.width - plot.clientWidth) < 1);
}"""


@pytest.fixture(scope="module")
def seen(browser, demo_report):
    """The report opened once, with everything that the browser had to say."""
    page = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme="light")
    said = SimpleNamespace(page=page, errors=[], requests=[])
    page.on("console", lambda message: said.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.errors.append(str(error)))
    page.on("request", lambda request: said.requests.append(request.url))
    page.goto(demo_report.report.as_uri())
    page.wait_for_selector("html[data-drawn=yes]")
    yield said
    page.close()


def look(page, scheme, width=1200):
    """What the plots are like in a colour scheme, once they follow it and the width."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_function(SETTLED, arg=width)
    return page.evaluate(PLOTS)


@pytest.fixture
def plots(seen):
    return look(seen.page, "light")


@pytest.fixture(scope="module")
def events(demo_report):
    journal = open_journal(demo_report.state)
    return journal.read(journal.models()[0])


def of_kind(events, *kinds):
    return [event for event in events if event.kind in kinds]


def challenger(event):
    return event.data["release"]["challengers"][0]["name"]


def plot(plots, figure, **meta):
    (found,) = [p for p in plots if p["meta"]["figure"] == figure and meta.items() <= p["meta"].items()]
    return found


def test_the_page_needs_nothing_but_itself(seen, demo_report):
    assert seen.errors == []
    assert seen.requests == [demo_report.report.as_uri()]
    assert not any(word in demo_report.report.read_text() for word in ("<link", "<iframe", 'src="http'))


def test_every_figure_is_drawn(seen, plots):
    assert len(plots) == seen.page.locator("figure .plot").count() >= 4
    assert all(one["drawn"] > 0 for one in plots)


def test_the_claims_are_listed_as_they_were_found(seen, demo_report):
    rows = seen.page.locator("table", has=seen.page.locator("#claims")).locator("tbody tr")
    listed = [[cell.strip() for cell in row.locator("th, td").all_inner_texts()] for row in rows.all()]
    expected = [["yes" if c["holds"] else "NO", c["claim"], c["seen"]] for c in demo_report.claims]
    assert [[" ".join(cell.split()) for cell in row] for row in listed] == [
        [" ".join(cell.split()) for cell in row] for row in expected
    ]


def test_the_traffic_ends_where_the_journal_says(plots, events):
    last = of_kind(events, "serve.traffic")[-1].data
    shares = {t["meta"]["version"]: t["y"] for t in plot(plots, "traffic")["traces"] if "version" in t["meta"]}
    assert {version: y[-1] for version, y in shares.items() if y[-1]} == dict(last["split"])
    assert all(abs(sum(at) - 1) < 1e-9 for at in zip(*shares.values(), strict=True))


def test_a_promoted_version_ends_with_all_of_the_traffic(plots, events):
    promotions = of_kind(events, "release.promoted")
    assert promotions
    lines = {t["meta"]["version"]: t["y"] for t in plot(plots, "traffic")["traces"] if "version" in t["meta"]}
    for event in promotions:
        assert max(lines[challenger(event)]) == 1.0
    if not of_kind(events, "release.rolled_back"):
        assert f"{challenger(promotions[-1])} answers" in plot(plots, "traffic")["caption"]


def test_whoever_was_mirrored_has_a_dashed_line(plots, events):
    mirrored = {version for event in of_kind(events, "serve.traffic") for version in event.data["mirrors"]}
    lines = {t["meta"]["mirror"]: t for t in plot(plots, "traffic")["traces"] if "mirror" in t["meta"]}
    assert set(lines) == mirrored
    assert all(any(value is not None for value in line["y"]) for line in lines.values())


def test_the_upper_bound_of_a_promoted_release_ends_under_its_margin(plots, events):
    for event in of_kind(events, "release.promoted"):
        if event.data["actions"][0]["reason"] != "proved_not_worse":
            continue
        shown = plot(plots, "confidence", release=event.data["release"]["name"])
        uppers = [t for t in shown["traces"] if t["meta"]["bound"] == "upper" and t["meta"].get("proof")]
        assert {trace["meta"]["metric"] for trace in uppers} == set(event.data["judgement"]["checks"]) - {
            "sample_ratio", "sample_ratio_labels",
        }  # fmt: skip
        assert all(trace["y"][-1] < trace["meta"]["margin"] for trace in uppers)


def test_the_sequence_narrows(plots, events):
    for event in of_kind(events, "release.promoted"):
        for trace in plot(plots, "confidence", release=event.data["release"]["name"])["traces"]:
            if trace["meta"]["bound"] == "upper":
                assert trace["y"][-1] < trace["y"][0]


def test_each_release_is_captioned_with_its_verdict(plots, events):
    words = {"release.promoted": "Promoted", "release.aborted": "Aborted"}
    for event in of_kind(events, *words):
        caption = plot(plots, "confidence", release=event.data["release"]["name"])["caption"]
        assert event.data["judgement"]["sentence"] in caption
        assert caption.startswith((words[event.kind], "Rolled back"))


def test_an_aborted_release_shows_the_bound_that_stopped_it(plots, events):
    for event in of_kind(events, "release.aborted"):
        shown = plot(plots, "confidence", release=event.data["release"]["name"])
        assert shown["meta"]["verdict"] == "aborted"
        assert any(t["y"][-1] > 0 for t in shown["traces"] if t["meta"]["bound"] == "lower")


def test_every_version_that_answered_long_enough_has_both_metrics(plots, events):
    traces = [t for t in plot(plots, "quality")["traces"] if t["meta"]]
    first = of_kind(events, "release.first")[0].data["version"]
    assert {"Brier loss", "ROC AUC"} == {t["meta"]["metric"] for t in traces if t["meta"]["version"] == first}
    values = [value for trace in traces for value in trace["y"] if value is not None]
    assert values
    assert all(0 < value < 1 for value in values)


def test_promotions_and_aborts_are_marked_on_the_metrics(plots, events):
    assert plot(plots, "quality")["shapes"] == len(
        of_kind(events, "release.promoted", "release.aborted", "release.rolled_back")
    )


def test_runs_and_refusals_are_on_the_time_line(plots, events):
    runs = {t["name"]: t["meta"]["runs"] for t in plot(plots, "timeline")["traces"] if "runs" in t["meta"]}
    assert list(dict.fromkeys(runs["run starts"])) == [e.data["run"] for e in of_kind(events, "trigger.started")]
    refused = of_kind(events, "evaluate.refused", "validate.refused")
    assert set(runs["refused"]) >= {event.data["run"] for event in refused}
    assert set(runs["candidates"]) == {event.data["run"] for event in of_kind(events, "register.candidate")}


def test_the_table_of_runs_says_why(seen, events):
    text = seen.page.locator("table", has=seen.page.get_by_text("Runs of the pipeline")).inner_text()
    for event in of_kind(events, "register.candidate"):
        assert event.data["mode_reason"] in text
    for event in of_kind(events, "evaluate.refused"):
        assert event.data["training"]["reason"] in text


def test_the_colours_follow_the_reader(seen, plots):
    dark = look(seen.page, "dark")
    assert {one["text"] for one in dark}.isdisjoint({one["text"] for one in plots})
    for one in [*plots, *dark]:
        assert "var(" not in json.dumps(one)


def test_nothing_is_cut_off_on_a_narrow_screen(seen):
    narrow = look(seen.page, "light", width=400)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 400
    assert all(one["width"] <= one["room"] for one in narrow)


def test_a_screen_reader_finds_its_way(seen):
    page = seen.page
    assert page.locator("h1").count() == 1
    assert page.locator("table").count() == page.locator("table > caption").count()
    assert page.locator("figure").count() == page.locator("figure > figcaption").count()
    for region in page.locator(".scroll, figure, .plot").all():
        label = region.get_attribute("aria-labelledby")
        assert region.get_attribute("aria-label") or page.locator(f"[id='{label}']").text_content(timeout=1000)
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(r => r.tabIndex === 0)")


def test_what_the_journal_says_is_escaped(demo_report, events):
    text = demo_report.report.read_text()
    for event in of_kind(events, "release.aborted", "release.promoted"):
        assert html.escape(event.data["judgement"]["sentence"]) in text
