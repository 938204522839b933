"""Reports in a browser."""

import pytest
from report_page import Tab

from gaptune.ledger import load
from gaptune.report import write_report


@pytest.fixture(scope="module")
def tab(browser, tmp_path_factory):
    """One tab for all reports of a module, each at the same address."""
    return Tab(browser, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def open_page(tab):
    """Writes a sweep's report and opens it; the browser's complaints, requests and new windows fail the test."""

    def open_page(folder, **look):
        write_report(load(folder), folder, tab.path, mlflow_url="http://127.0.0.1:5000")
        return tab.open(**look)

    yield open_page
    assert tab.troubles() == []
