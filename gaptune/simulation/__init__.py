"""Sweeps in virtual time: the real search over recorded learning curves."""
