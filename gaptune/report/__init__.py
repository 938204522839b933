"""A sweep as one HTML file that needs nothing else: to look at, to send, to print."""

from gaptune.report.content import headline
from gaptune.report.page import REPORT_FILE, write_report

__all__ = ["REPORT_FILE", "headline", "write_report"]
