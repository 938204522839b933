"""Plots of a sweep, by matplotlib."""
