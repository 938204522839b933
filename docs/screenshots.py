"""Takes the screenshots of the docs from a finished sweep: ``python docs/screenshots.py NAME --results DIR``.

Starts ``gaptune ui`` on a free port, follows the steps of ``docs/guides/mlflow.md`` in a headless Chromium, then opens
the report of the sweep. A screenshot is a function that brings the browser to the right page; ``SCREENSHOTS`` maps file
names to these functions.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import click
from playwright.sync_api import Page, sync_playwright

from gaptune.ledger import SweepRecord, load, sweep_folder
from gaptune.results import summarize

IMAGES = Path(__file__).resolve().parent / "images"
WIDTH = 1280


def experiment(page: Page, record: SweepRecord) -> None:
    """The runs of the experiment, with the sweep expanded."""
    page.get_by_text("Model training", exact=True).click()
    page.get_by_role("link", name="Experiments", exact=True).click()
    page.get_by_role("link", name="gaptune", exact=True).click()
    row = page.locator("[role=row]", has=page.get_by_role("link", name=record.name, exact=True))
    row.locator("button[data-component-id*=runname]").click()


def front(page: Page, record: SweepRecord) -> None:
    """Only the front, best first, with its metrics."""
    page.get_by_test_id("search-box").fill(f"tags.front = 'true' and tags.sweep = '{record.name}'")
    page.get_by_test_id("search-box").press("Enter")
    first, *others = record.objectives
    page.get_by_test_id("sort-select-dropdown").click()
    page.get_by_test_id(f"sort-select-{first.metric}").click()  # this adds its column, too
    if not first.maximize:
        page.get_by_test_id("sort-select-dropdown").click()
        page.get_by_label("Sort ascending").click()
    metrics = {"geometry/gap", *(other.metric for other in others)} - {first.metric}
    page.get_by_test_id("column-selection-dropdown").first.click()
    for name in ("Dataset", "Source", "Models", *metrics):
        page.locator(f"[role=dialog] [title='{name}']").click()
    page.keyboard.press("Escape")
    for name in ("Run Name", first.metric, *metrics):
        edge = f".ag-header-cell[col-id*='{name}'] .ag-header-cell-resize"
        page.locator(edge).dblclick()  # as wide as its content


def charts(page: Page, record: SweepRecord) -> None:
    """The metrics of the front over epochs."""
    page.locator("label:has(input[value=CHART])").click()
    page.locator(".scatterlayer .js-line").first.wait_for()


def trial(page: Page, record: SweepRecord) -> None:
    """The metrics of the trial that is best in the first objective."""
    number = summarize(record).front[0].trial.number
    page.get_by_role("link", name=f"{number:04d} ").click()
    page.get_by_role("tab", name="Model metrics").click()
    page.locator(".scatterlayer .js-line").first.wait_for()


def report(folder: Path, page: Page, record: SweepRecord) -> None:
    """The first screen of the report."""
    page.goto((folder / "report.html").resolve().as_uri())
    page.locator("#front .main-svg").first.wait_for()


Taking = Callable[[Page, SweepRecord], None]
SCREENSHOTS: dict[str, tuple[Taking, int]] = {  # and heights; each starts where the one before ended
    "mlflow-experiment": (experiment, 628),
    "mlflow-front": (front, 460),
    "mlflow-charts": (charts, 685),
    "mlflow-trial": (trial, 628),
}
REPORT_HEIGHT = 940


@click.command()
@click.argument("name")
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
def main(name: str, results: Path) -> None:
    """Write the screenshots of the sweep NAME into docs/images/."""
    folder = sweep_folder(results, name)
    record = load(folder)
    screenshots = {**SCREENSHOTS, "report": (partial(report, folder), REPORT_HEIGHT)}
    with served(results) as address, opened(address) as page:
        for file, (take, height) in screenshots.items():
            page.set_viewport_size({"width": WIDTH, "height": height})
            take(page, record)
            page.mouse.move(0, 0)  # nothing is hovered
            page.wait_for_timeout(1500)  # nothing moves any more
            page.screenshot(path=IMAGES / f"{file}.png")


@contextmanager
def served(results: Path) -> Iterator[str]:
    """Run ``gaptune ui`` and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gaptune.cli", "ui", "--results", str(results), "--port", str(port)]
    server = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        while server.poll() is None:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


@contextmanager
def opened(address: str) -> Iterator[Page]:
    """The first page in a headless Chromium, without MLflow's assistant, which would cover a quarter of the page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        page.goto(address)
        page.add_style_tag(content="[data-assistant-ui] { display: none !important }")
        yield page
        browser.close()


if __name__ == "__main__":
    main()
