"""Makes the docs' screenshots again, from a sweep that is done: ``python docs/pictures.py NAME --results DIR``.

Starts ``gaptune ui`` on a free port and goes through its pages as ``docs/mlflow.md`` says, in a headless Chromium; then
opens the sweep's report.
A picture is a function that brings a page to where it is taken; ``PICTURES`` says which file each becomes.
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

DOCS = Path(__file__).resolve().parent
WIDTH = 1280


def experiment(page: Page, record: SweepRecord) -> None:
    """The experiment's runs: the sweep, opened."""
    page.get_by_text("Model training", exact=True).click()
    page.get_by_role("link", name="Experiments", exact=True).click()
    page.get_by_role("link", name="gaptune", exact=True).click()
    row = page.locator("[role=row]", has=page.get_by_role("link", name=record.name, exact=True))
    row.locator("button[data-component-id*=runname]").click()


def front(page: Page, record: SweepRecord) -> None:
    """The front and nothing else, best first, with its scores."""
    page.get_by_test_id("search-box").fill(f"tags.front = 'true' and tags.sweep = '{record.name}'")
    page.get_by_test_id("search-box").press("Enter")
    first, *others = record.objectives
    page.get_by_test_id("sort-select-dropdown").click()
    page.get_by_test_id(f"sort-select-{first['metric']}").click()  # which adds its column, too
    if not first["maximize"]:
        page.get_by_test_id("sort-select-dropdown").click()
        page.get_by_label("Sort ascending").click()
    metrics = {"geometry/gap", *(other["metric"] for other in others)} - {first["metric"]}
    page.get_by_test_id("column-selection-dropdown").first.click()
    for name in ("Dataset", "Source", "Models", *metrics):
        page.locator(f"[role=dialog] [title='{name}']").click()
    page.keyboard.press("Escape")
    for name in ("Run Name", first["metric"], *metrics):
        edge = f".ag-header-cell[col-id*='{name}'] .ag-header-cell-resize"
        page.locator(edge).dblclick()  # as wide as what is in it


def charts(page: Page, record: SweepRecord) -> None:
    """The front's scores over epochs."""
    page.locator("label:has(input[value=CHART])").click()
    page.locator(".scatterlayer .js-line").first.wait_for()


def trial(page: Page, record: SweepRecord) -> None:
    """The same of one member, the best in the first objective."""
    number = summarize(record).front[0].trial.number
    page.get_by_role("link", name=f"{number:04d} ").click()
    page.get_by_role("tab", name="Model metrics").click()
    page.locator(".scatterlayer .js-line").first.wait_for()


def report(folder: Path, page: Page, record: SweepRecord) -> None:
    """The first page of the sweep's report."""
    page.goto((folder / "report.html").resolve().as_uri())
    page.locator("#front .main-svg").first.wait_for()


Taking = Callable[[Page, SweepRecord], None]
PICTURES: dict[str, tuple[Taking, int]] = {  # and heights; each goes on where the one before has led
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
    """Write the screenshots of the sweep NAME into docs/."""
    folder = sweep_folder(results, name)
    record = load(folder)
    pictures = {**PICTURES, "report": (partial(report, folder), REPORT_HEIGHT)}
    with served(results) as address, opened(address) as page:
        for file, (take, height) in pictures.items():
            page.set_viewport_size({"width": WIDTH, "height": height})
            take(page, record)
            page.mouse.move(0, 0)  # nothing is hovered
            page.wait_for_timeout(1500)  # nothing moves any more
            page.screenshot(path=DOCS / f"{file}.png")


@contextmanager
def served(results: Path) -> Iterator[str]:
    """``gaptune ui``; gives its address."""
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
    """The first page in a headless Chromium, without MLflow's assistant, which would cover a quarter of it."""
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
