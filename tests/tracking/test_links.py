"""What MLflow's pages show of a sweep: the recorded one, served as ``gaptune ui`` serves it, in a real browser."""

import os
import shutil
from contextlib import suppress

import pytest
from PIL import Image
from playwright import sync_api as playwright
from support import pages_of
from warm import run

from gaptune.ledger import load
from gaptune.results import summarize
from gaptune.storage.bundled import example
from gaptune.tracking.links import experiment_link

PATIENCE_MS = 30_000  # a page takes a second or two on a machine that does nothing else

# The names in the list of runs, from above.
LISTED = """() => [...document.querySelectorAll('[role=row]:has(a[href*="/runs/"])')]
    .sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))
    .map((row) => row.querySelector('a[href*="/runs/"]').textContent)"""

# The lines of a metric's chart as x and y, by name; nothing before they are drawn.
DRAWN = """(metric) => {
    const cards = [...document.querySelectorAll('[data-testid=experiment-view-compare-runs-card]')];
    const plot = cards.find((card) => card.querySelector(`[title='${metric}']`))?.querySelector('.js-plotly-plot');
    const drawn = plot?.querySelectorAll('.scatterlayer .js-line').length;
    return drawn ? Object.fromEntries(plot.data.map((line) => [line.name, [[...line.x], [...line.y]]])) : {};
}"""


def run_name(record, number):
    return f"{number:04d} {record.trials[number].method} of {record.name}"


def lines(record, numbers, metric):
    """What a chart should draw, by the ledger."""
    reports = {run_name(record, number): record.trials[number].reports for number in numbers}
    return {name: [[r.epoch for r in of], [r.metrics[metric] for r in of]] for name, of in reports.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The recorded sweep, written into an empty store as at the end of a sweep."""
    folder = tmp_path_factory.mktemp("results") / load(example()).name
    shutil.copytree(example(), folder)
    run("sync", folder.name, "--results", folder.parent, env=environment())
    return folder


@pytest.fixture(scope="module")
def record(folder):
    return load(folder)


@pytest.fixture(scope="module")
def front(record):
    """Numbers of the members, in the order of their rank."""
    return [trial.number for member in summarize(record).front for trial in member.trials]


@pytest.fixture(scope="module")
def address(browser, folder):
    with pages_of(folder.parent, environment()) as address:
        yield address


@pytest.fixture(scope="module")
def tab(browser):
    """One tab for all: MLflow's scripts are of many megabytes, and Chromium keeps them compiled."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE_MS)
    return page


@pytest.fixture
def page(tab, address):
    """The first page, as somebody sees it who has never been here."""
    tab.goto(f"{address}/health")  # MLflow's, too, but without its scripts
    tab.evaluate("sessionStorage.clear()")
    browser = tab.context.new_cdp_session(tab)
    kept = "cookies,local_storage,indexeddb,service_workers"
    browser.send("Storage.clearDataForOrigin", {"origin": address, "storageTypes": kept})
    browser.detach()
    tab.goto(address)
    return tab


def environment():
    """Nobody's own store."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GAPTUNE_R", "MLFLOW_"))}


def comes_to(page, look, expected, arg=None):
    """Waits until something on the page is as expected, and shows the difference when it does not become so."""
    with suppress(playwright.TimeoutError):
        want = "([look, arg, want]) => JSON.stringify(eval(look)(arg)) === JSON.stringify(want)"
        page.wait_for_function(want, arg=[look, arg, expected], polling=200)
    assert page.evaluate(look, arg) == expected


def to_the_runs(page):
    """The way from the first page to the experiment's runs."""
    page.get_by_text("Model training", exact=True).click()
    page.get_by_role("link", name="Experiments", exact=True).click()
    page.get_by_role("link", name="gaptune", exact=True).click()
    playwright.expect(page.get_by_text("matching runs")).to_be_visible(timeout=PATIENCE_MS)


def open_sweep(page, record):
    page.locator("[role=row]", has_text=record.name).locator("button[data-component-id*=runname]").click()


def search_for_the_front(page, record):
    page.get_by_test_id("search-box").fill(f"tags.front = 'true' and tags.sweep = '{record.name}'")
    page.get_by_test_id("search-box").press("Enter")


def sort_by_the_first_objective(page, record):
    page.get_by_test_id("sort-select-dropdown").click()
    page.get_by_test_id(f"sort-select-{record.objectives[0].metric}").click()


def says(page, text):
    playwright.expect(page.get_by_text(text, exact=True)).to_be_visible(timeout=PATIENCE_MS)


def newest_first(record, numbers):
    return [run_name(record, number) for number in sorted(numbers, reverse=True)]


def test_a_sweep_is_one_run_until_its_trials_are_opened(page, record):
    to_the_runs(page)
    comes_to(page, LISTED, [record.name])
    open_sweep(page, record)
    comes_to(page, LISTED, [record.name, *newest_first(record, record.trials)])


def test_the_address_that_gaptune_ui_prints_leads_straight_to_the_sweeps(page, address, folder, record):
    page.goto(experiment_link(folder.parent, address))
    comes_to(page, LISTED, [record.name])


def test_by_date_a_search_for_the_front_finds_its_members_under_their_sweep_and_counts_that_too(page, record, front):
    to_the_runs(page)
    search_for_the_front(page, record)
    comes_to(page, LISTED, [record.name])
    open_sweep(page, record)
    comes_to(page, LISTED, [record.name, *newest_first(record, front)])
    says(page, f"{len(front) + 1} matching runs")


def test_by_an_objective_it_finds_the_front_and_nothing_else_best_first(page, record, front):
    to_the_runs(page)
    search_for_the_front(page, record)
    sort_by_the_first_objective(page, record)
    comes_to(page, LISTED, [run_name(record, number) for number in front])
    says(page, f"{len(front)} matching runs")


def test_the_front_is_charted_with_a_line_over_epochs_for_each_member(page, record, front):
    to_the_runs(page)
    search_for_the_front(page, record)
    sort_by_the_first_objective(page, record)
    comes_to(page, LISTED, [run_name(record, number) for number in front])
    page.locator("label:has(input[value=CHART])").click()
    comes_to(page, DRAWN, lines(record, front, "geometry/gap"), "geometry/gap")


def test_a_members_page_says_its_rank_and_charts_its_metrics_over_epochs(page, record, front):
    to_the_runs(page)
    search_for_the_front(page, record)
    open_sweep(page, record)
    page.get_by_role("link", name=run_name(record, front[0])).click()
    says(page, "front_rank: 1")
    page.get_by_role("tab", name="Model metrics").click()
    comes_to(page, DRAWN, lines(record, front[:1], "geometry/gap"), "geometry/gap")


def test_the_sweeps_page_says_how_it_ended_and_shows_its_files(page, folder, record, front):
    to_the_runs(page)
    page.get_by_role("link", name=record.name, exact=True).click()
    says(page, record.header.command)
    outcome = page.get_by_text(f"of {summarize(record).complete} complete candidates are Pareto-optimal")
    playwright.expect(outcome).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("tab", name="Artifacts").click()
    files = "() => [...document.querySelectorAll('[artifact-name]')].map((file) => file.getAttribute('artifact-name'))"
    comes_to(page, files, ["front.png", "report.html", "results.parquet", "space.yaml", "sweep.yaml"])
    page.get_by_text("front.png", exact=True).click()
    widest = "() => Math.max(...[...document.querySelectorAll('img')].map((image) => image.naturalWidth))"
    comes_to(page, widest, Image.open(folder / "front.png").width)
    page.get_by_text("report.html", exact=True).click()
    page.frame_locator("iframe").locator("#front").scroll_into_view_if_needed()  # drawn when it is near
    page.frame_locator("iframe").locator("#front .main-svg").first.wait_for()
