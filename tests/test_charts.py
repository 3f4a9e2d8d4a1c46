"""Charts: files that show the figure's numbers, in the site's colours, at the announced size, and nothing foreign."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from playwright.sync_api import expect

from annotate import charts
from annotate.charts.drawing import apart, labels_at_ends
from annotate.models import Heartbeat, Project, SourceReward, User
from annotate.progress.figures import Column, Figure
from annotate.progress.learned import Curves, Point, efficiency_figure, production_figure
from tests.test_dashboard import compared, judged, measured

if TYPE_CHECKING:
    from tests.browser import Open

pytest_plugins = ["tests.browser"]


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def curves(gap: float = 0.05) -> Curves:
    def point(n: int, loss: float) -> Point:
        limits = {
            "log_loss": [loss, loss - 0.05, loss + 0.05],
            "accuracy": [1 - loss, 0.9 - loss, 1.1 - loss],
        }
        return Point(n, 60, limits)

    counts = (25, 50, 75, 100, 150, 200, 300, 400)
    losses = {"active": 0.0, "control": gap, "production": -0.01}
    return Curves({role: [point(n, 0.5 + more + 1 / n) for n in counts] for role, more in losses.items()})


def listing(name: str, first: str, *names: str) -> Figure:
    forms = ("count", ".2f", ".2f", ".2f")
    fields = (
        ("responses", "reward", "low", "high") if name == "rewards" else ("decided", "left", "low", "high")
    )
    columns = [
        Column(first, first.title()),
        *(Column(f, f, form) for f, form in zip(fields, forms, strict=True)),
    ]
    rows = [(one, 30, 0.5, 0.4, 0.6) for one in names]
    if name == "sides":
        columns.append(Column("one_sided", "One-sided", "count"))
        rows = [(*row, int(i == 0)) for i, row in enumerate(rows)]  # type: ignore[misc]
    return Figure(name, name.title(), "Words.", tuple(columns), tuple(rows), "list")


def days(count: int = 3) -> Figure:
    columns = (
        Column("start", "Day"),
        Column("active", "Active", "count"),
        Column("control", "Control", "count"),
    )
    rows = tuple((f"2026-03-{i + 1:02}", 5, i, 5 + i) for i in range(count))
    return Figure("days", "Days", "Words.", (*columns, Column("total", "All", "count")), rows, "bars")


FIGURES = {
    "days": days(),
    "log-loss": efficiency_figure(curves(), "log-loss"),
    "accuracy": efficiency_figure(curves(), "accuracy"),
    "production": production_figure(curves()),
    "sides": listing("sides", "annotator", "ben", "cho"),
    "rewards": listing("rewards", "source", "alpha", "beta", "gamma"),
}


def drawing(figure: Figure, frame: charts.Frame) -> ElementTree.Element:
    return ElementTree.fromstring(charts.render(figure, frame))  # noqa: S314 (our own file)


@pytest.mark.parametrize("name", FIGURES)
def test_every_chart_has_exactly_the_size_that_the_page_keeps_free_for_it(name: str) -> None:
    for size, theme in product(("narrow", "medium", "wide"), ("light", "dark")):
        image = drawing(FIGURES[name], charts.Frame(theme, size))
        width, height = FIGURES[name].sizes[size]
        assert (float(image.get("width", 0)), float(image.get("height", 0))) == (width, height)


def test_the_colours_are_those_of_the_site_in_both_themes() -> None:
    tokens = (Path(settings.BASE_DIR) / "static/css/tokens.css").read_text()
    pair = r"--{}: light-dark\((#\w+), (#\w+)\)"
    for number, theme in enumerate(("light", "dark"), start=1):

        def token(name: str, number: int = number) -> str:
            found = re.search(pair.format(name), tokens)
            assert found, name
            return found[number]

        look = charts.LOOKS[theme]
        assert look.series == tuple(token(f"series-{i}") for i in (1, 2, 3, 4))
        assert (look.surface, look.text, look.muted, look.line) == (
            token("surface"), token("text"), token("muted"), token("line"),
        )  # fmt: skip


def test_a_chart_shows_the_names_and_last_values_of_its_lines() -> None:
    image = charts.render(FIGURES["log-loss"], charts.Frame()).decode()
    assert "Active 0.502" in image
    assert "Control 0.552" in image


def test_labels_of_lines_that_end_together_do_not_touch() -> None:
    figure = efficiency_figure(curves(gap=0.0001), "log-loss")
    rows = [
        {"arm": arm, "value": record[arm], "low": record[f"{arm}_low"], "high": record[f"{arm}_high"]}
        for arm in ("active", "control") for record in figure.records
    ]  # fmt: skip
    low, high = (end["at"] for end in labels_at_ends(rows, ["active", "control"], share=False))
    assert high - low == pytest.approx(0.07 * (max(r["high"] for r in rows) - min(r["low"] for r in rows)))


def test_ticks_on_the_logarithmic_axis_keep_their_distance() -> None:
    ticks = apart([25, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1200, 1600], 4)
    assert ticks[0] == 1600
    assert all(one / two > 2.5 for one, two in pairwise(ticks))
    assert apart([25], 4) == [25]


def test_the_table_under_a_chart_and_its_csv_have_the_same_numbers() -> None:
    figure = FIGURES["production"]
    header, *rows = csv.reader(io.StringIO(charts.as_csv(figure)))
    assert header[:4] == ["judgments", "log_loss", "low", "high"]
    assert [float(row[1]) for row in rows] == [row[1] for row in figure.rows]
    assert [row[1][1] for row in figure.table] == [f"{value[1]:.3f}" for value in figure.rows]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_a_source_that_looks_like_a_formula_is_text_in_the_csv(name: str) -> None:
    (_, row) = csv.reader(io.StringIO(charts.as_csv(listing("rewards", "source", name))))
    assert row[0] == f"'{name}"


def test_vega_lite_carries_its_numbers_and_words_and_loads_nothing() -> None:
    for figure in FIGURES.values():
        made = json.loads(charts.render(figure, charts.Frame(ext="json")))
        assert made["description"] == figure.alt
        assert made["title"]["text"] == figure.title
        assert '"url"' not in json.dumps(made)


@pytest.mark.parametrize(
    "name", ["</svg><script>alert(1)</script>", 'a" onload="alert(1)', "datum.x", "&amp;<b>"]
)
def test_a_hostile_name_is_only_text_in_the_picture(name: str) -> None:
    for figure in (listing("rewards", "source", name, "other"), listing("sides", "annotator", name)):
        image = drawing(figure, charts.Frame())
        tags = {element.tag.split("}")[1] for element in image.iter()}
        assert tags <= {"svg", "g", "path", "rect", "line", "text", "defs", "clipPath", "title"}
        assert not [key for element in image.iter() for key in element.attrib if key.startswith("on")]
        assert name[:10] in "".join(image.itertext())


def test_the_digest_changes_with_the_numbers_and_only_with_them() -> None:
    assert days().digest == days().digest
    assert days(3).digest != days(4).digest


def test_charts_are_drawn_once_for_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(charts, "render", lambda figure, frame: drawn.append(figure.name) or b"<svg/>")
    for _ in range(3):
        charts.drawn(days(), charts.Frame())
    charts.drawn(days(), charts.Frame("dark"))
    assert drawn == ["days", "days"]


def test_several_threads_may_draw_at_once() -> None:
    def draw(name: str) -> bytes:
        return charts.render(FIGURES[name], charts.Frame())

    alone = {name: draw(name) for name in FIGURES}
    with ThreadPoolExecutor(4) as pool:
        assert dict(zip(FIGURES, pool.map(draw, FIGURES), strict=True)) == alone


@pytest.mark.django_db
def test_an_address_with_the_right_digest_may_be_kept_and_others_are_asked_for_again(
    project: Project, as_ada: Client
) -> None:
    measured(project, "production", 25)
    plain = as_ada.get("/projects/tides/charts/production.svg")
    assert plain["Cache-Control"] == "private, no-cache"
    digest = plain["ETag"].strip('"').split("-")[0]
    assert "immutable" in as_ada.get(f"/projects/tides/charts/production.svg?v={digest}")["Cache-Control"]
    assert "immutable" not in as_ada.get("/projects/tides/charts/production.svg?v=old")["Cache-Control"]
    measured(project, "production", 50)
    assert as_ada.get("/projects/tides/charts/production.svg")["ETag"] != plain["ETag"]


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["theme=pink", "size=huge", "size=../x"])
def test_an_unknown_theme_or_size_does_not_exist(project: Project, as_ada: Client, query: str) -> None:
    measured(project, "production", 25)
    assert as_ada.get(f"/projects/tides/charts/production.svg?{query}").status_code == 404


# --- In a browser -------------------------------------------------------------------------------------------


@pytest.fixture
def shown(transactional_db: None, project: Project, ben: User) -> Project:
    Heartbeat.objects.create(worker="w", queues="learn")
    for i in range(24):
        judged(compared(project, ("active", "control")[i % 2]), ben, answer="first", lead_time=3.0)
    for role, n in product(("active", "control", "production"), (25, 50)):
        measured(project, role, n)
    SourceReward.objects.create(
        project=project, source="alpha", responses=9, reward=0.5, low=0.3, high=0.7, step=1
    )
    return project


@pytest.mark.browser
def test_a_refresh_changes_what_changed_and_leaves_the_rest_alone(
    shown: Project, ada: User, ben: User, open_as: Open
) -> None:
    page = open_as(ada, "/projects/tides/")
    page.locator("#numbers-days > summary").click()
    page.evaluate("window.before = ['days', 'production'].map((n) => document.getElementById(`figure-${n}`))")
    judged(compared(shown), ben)
    page.evaluate("document.getElementById('dashboard').dispatchEvent(new Event('refresh'))")
    expect(page.locator("#working-stats dd").first).to_contain_text("25")
    expect(page.locator("#figure-days td.number").last).to_have_text("25")
    same = "window.before.map((old) => old === document.getElementById(old.id))"
    assert page.evaluate(same) == [False, True]
    assert page.evaluate("document.getElementById('numbers-days').open")
    assert page.evaluate("document.activeElement.closest('details').id") == "numbers-days"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_dashboard_is_accessible_and_fits(
    shown: Project, ada: User, open_as: Open, scheme: str, width: int
) -> None:
    page = open_as(ada, "/projects/tides/", width=width, color_scheme=scheme)
    picture = page.locator(f"#figure-days .on-{scheme} img")
    expect(picture).to_be_visible()
    page.wait_for_function(
        "(image) => image.complete && image.naturalWidth > 0", arg=picture.element_handle()
    )
    assert f"theme={scheme}" in picture.evaluate("(image) => image.currentSrc")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
