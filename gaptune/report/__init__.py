"""A sweep as one HTML file that needs nothing else: to look at, to send, to print."""

from gaptune.report.page import REPORT_FILE, write_report

__all__ = ["REPORT_FILE", "write_report"]
