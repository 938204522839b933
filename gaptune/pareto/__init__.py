"""Dominance, hypervolume and ranking of points; larger is better in every column."""
