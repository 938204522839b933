"""The embedded data shows the paper's effects of a fixed temperature.

With GAPTUNE_SOAK=full at the default budget, with six temperatures and two paired seeds: minutes.
Else in half of the epochs, at three temperatures.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import pytest

CONFIG = Path(__file__).resolve().parent.parent / "sweeps/embedded.yaml"
FULL = os.environ.get("GAPTUNE_SOAK") == "full"
SEEDS = (0, 1) if FULL else (0,)
FALLING = (0.01, 0.04, 0.1, 0.2) if FULL else (0.01, 0.1)
"""Temperatures over which the gap falls."""
LOW, BEST, HIGH = (0.01, 0.07, 0.4) if FULL else (0.01, 0.1, 0.4)
"""Temperatures over which retrieval is an inverted U."""


def scores(tau, seed):
    import torch

    from gaptune.config import load_sweep_config
    from gaptune.data.open import open_store
    from gaptune.trial import train

    torch.set_num_threads(1)
    sweep = load_sweep_config(CONFIG)
    params = {"temperature.schedule": "constant", "temperature.tau_start": tau, "seed": seed}
    if not FULL:
        params |= {"training.epochs": 3, "training.evaluate_every": 3}
    *_, last = train(sweep.trial(params), open_store(sweep.data.store))
    return last.metrics


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_gap_falls_with_a_fixed_tau_and_retrieval_is_an_inverted_u():
    tasks = [(tau, seed) for tau in sorted({*FALLING, LOW, BEST, HIGH}) for seed in SEEDS]
    if FULL:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            results = dict(zip(tasks, pool.map(scores, *zip(*tasks, strict=True)), strict=True))
    else:  # other tests run beside this one, and processes would import everything again
        results = {task: scores(*task) for task in tasks}
    for seed in SEEDS:
        gaps = [results[tau, seed]["geometry/gap"] for tau in FALLING]
        assert all(larger > smaller for larger, smaller in pairwise(gaps)), gaps
    recall = {tau: sum(results[tau, seed]["retrieval/mean_r1"] for seed in SEEDS) for tau in (LOW, BEST, HIGH)}
    assert recall[LOW] < recall[BEST] > recall[HIGH], recall
