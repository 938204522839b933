"""Simulated sweeps: the real search on recorded learning curves, in virtual time."""
