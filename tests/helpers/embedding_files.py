"""Small files of features and of pairs."""

import csv

import numpy as np


def features(rows, width, seed=0, dtype=np.float16):
    """Random features."""
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(dtype)


def write_csv(path, header, rows):
    """A CSV file; returns its path."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *(list(map(str, row)) for row in rows)])
    return path
