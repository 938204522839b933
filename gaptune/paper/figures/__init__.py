"""The figures of the paper, from own runs."""
