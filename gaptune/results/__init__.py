"""Reading a sweep: the Pareto front, its hypervolume, tables, plots and files, from the ledger alone."""

from gaptune.results.front import Candidate, Summary, candidates, summarize

__all__ = ["Candidate", "Summary", "candidates", "summarize"]
