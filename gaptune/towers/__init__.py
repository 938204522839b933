"""Frozen towers of other libraries, and stores of their features."""

from gaptune.towers.kinds import TOWERS, Kind, open_tower

__all__ = ["TOWERS", "Kind", "open_tower"]
