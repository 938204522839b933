"""Reading a sweep: the Pareto front, its hypervolume, tables, plots and files, from the ledger alone."""

from gaptune.ledger.candidate import Candidate
from gaptune.results.front import Summary, candidates, summarize

__all__ = ["Candidate", "Summary", "candidates", "summarize"]
