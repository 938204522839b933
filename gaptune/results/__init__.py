"""Reading a sweep: the Pareto front, its hypervolume, tables, plots and files, from the ledger alone."""

from gaptune.results.front import Summary, summarize

__all__ = ["Summary", "summarize"]
