"""Checks the file of a Ray cluster before ``ray up`` spends money on it."""

from gaptune.deploy.check import check_cluster

__all__ = ["check_cluster"]
