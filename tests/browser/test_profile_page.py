"""The profile page in a real browser: the fault is seen at once, on any screen, by anybody."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace

import polars as pl
import pytest

from flights.workload import flight_delay
from tidegate.validate.render import profile

pytestmark = pytest.mark.browser
N = pl.int_range(pl.len())
WIDE, NARROW = 1200, 400
COLOUR = "one => getComputedStyle(one).{}"


@pytest.fixture(scope="module")
def seen(browser, tmp_path_factory):
    """A week of flights and weather with faults, against a good day, opened once."""
    folder = tmp_path_factory.mktemp("profile")
    (folder / "now").mkdir()
    tables = flight_delay.source.arrivals(datetime(2013, 1, 8, tzinfo=UTC))
    tables["weather"].with_columns(
        humid=pl.when(N < 9).then(pl.lit(140.0)).otherwise("humid"),
        wind_speed=pl.when(N > 300).then(None).otherwise("wind_speed"),
        pressure=pl.lit(1013.0),
    ).drop("visib").write_parquet(folder / "now" / "weather.parquet")
    tables["flights"].with_columns(
        dep_delay=pl.when(N == 5).then(pl.lit(10**12)).otherwise(pl.col("dep_delay").cast(pl.Int64)),
        carrier=pl.when(N < 300).then(pl.lit("ZZ")).otherwise("carrier"),
    ).write_parquet(folder / "now" / "flights.parquet")
    (folder / "good").mkdir()
    for name, rows in tables.items():
        rows.head(rows.height // 2).write_parquet(folder / "good" / f"{name}.parquet")
    said = SimpleNamespace(errors=[], requests=[], path=folder / "page.html")
    profile(str(folder / "now"), "flights.workload:flight_delay", str(folder / "good"), folder, said.path)
    said.page = page = browser.new_page(viewport={"width": WIDE, "height": 900}, color_scheme="light")
    page.on("console", lambda message: said.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.errors.append(str(error)))
    page.on("request", lambda request: said.requests.append(request.url))
    page.goto(said.path.as_uri())
    yield said
    page.close()


@pytest.fixture
def page(seen):
    """The page as it was opened."""
    seen.page.emulate_media(color_scheme="light")
    seen.page.set_viewport_size({"width": WIDE, "height": 900})
    return seen.page


def card(page, name):
    return page.locator(f"article[id='{name}']")


def test_the_page_needs_nothing_but_itself(seen):
    assert seen.errors == []
    assert seen.requests == [seen.path.as_uri()]


def test_faults_come_first_and_lead_to_their_column(page):
    listed = page.get_by_role("list", name="What stands out in weather").get_by_role("listitem")
    kinds = [item.get_attribute("class") for item in listed.all()]
    assert kinds == sorted(kinds, key=lambda kind: kind != "fault")
    words = listed.all_inner_texts()
    assert words[0].startswith("missing_column visib")
    assert any(text.startswith("range humid: Outside of the accepted range. 9 rows") for text in words)
    listed.get_by_role("link", name="humid").first.click()
    assert page.evaluate("location.hash") == "#weather-humid"
    assert card(page, "weather-humid").bounding_box()["y"] < 900


def test_a_faulty_column_looks_unlike_a_good_one(page):
    edge = {
        name: card(page, name).evaluate(COLOUR.format("borderTopColor")) for name in ("weather-humid", "weather-precip")
    }
    assert edge["weather-humid"] != edge["weather-precip"]
    humid = card(page, "weather-humid")
    assert "9 above 100" in humid.locator("svg").inner_html()
    assert humid.locator("rect.bad").bounding_box()["height"] >= 5
    assert "missing_column" in card(page, "weather-visib").inner_text()
    assert "constant" in card(page, "weather-pressure").inner_text()
    strange = card(page, "flights-carrier").get_by_role("listitem").first
    assert strange.inner_text().startswith("ZZ new")
    assert strange.locator(".fill").bounding_box()["width"] > 5


def test_one_wild_value_flattens_no_picture(page):
    drawn = [bar.bounding_box()["height"] for bar in card(page, "flights-dep_delay").locator("rect.bar").all()]
    assert sum(height > 1 for height in drawn) >= 6
    assert "1 above 2,880" in card(page, "flights-dep_delay").locator("svg").inner_html()


def test_the_other_version_is_drawn_over_it_and_in_figures(page):
    assert card(page, "weather-temp").locator("path.old").count() == 1
    missing = card(page, "weather-wind_speed").get_by_role("row", name="missing").inner_text()
    assert "(0.0%)" in missing.split("\t")[-1]
    assert missing.split("\t")[1] != missing.split("\t")[-1]


def test_the_colours_follow_the_reader(page):
    light = page.locator("body").evaluate(COLOUR.format("backgroundColor"))
    bar = page.locator("rect.bar").first.evaluate(COLOUR.format("fill"))
    page.emulate_media(color_scheme="dark")
    assert page.locator("body").evaluate(COLOUR.format("backgroundColor")) != light
    assert page.locator("rect.bar").first.evaluate(COLOUR.format("fill")) != bar


def test_nothing_is_cut_off_on_a_narrow_screen(page):
    page.set_viewport_size({"width": NARROW, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
    boxes = [one.bounding_box() for one in page.locator("article").all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= NARROW for box in boxes)


def test_a_screen_reader_finds_its_way(page):
    assert page.locator("h1").count() == 1
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(one => +one.tagName[1])")
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.locator("svg").count() == page.locator("svg[role=img][aria-label]").count() > 10
    for table in page.locator("table").all():
        assert table.get_attribute("aria-label") or table.locator("caption").inner_text()
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(r => r.tabIndex === 0 && r.ariaLabel)")
    label = card(page, "weather-humid").locator("svg").get_attribute("aria-label")
    assert "9 values are above the accepted 100" in label
