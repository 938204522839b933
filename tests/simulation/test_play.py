"""Simulated sweeps: the behavior of the search over many trials, in seconds."""

import math

import pytest
from support import sweep_config

from gaptune.ledger import State, replay
from gaptune.results import summarize
from gaptune.simulation.play import simulate
from gaptune.space.parse import parse_space

SPACE = parse_space(
    {"params": {"temperature.schedule": "constant", "temperature.tau_start": {"log_uniform": [0.01, 0.4]}}}
)


def epochs_spent(record):
    return sum(trial.epoch for trial in record.trials.values())


def curve(trial):
    """Recall has an inverted U shape in τ, and the gap falls with τ. Both converge exponentially over the epochs."""
    tau = trial.config["temperature.tau_start"]
    recall = math.exp(-(math.log(tau / 0.07) ** 2))
    gap = 0.05 + 1.0 / (1.0 + (tau / 0.04) ** 2)
    grown = [1 - math.exp(-3 * epoch / trial.epochs) for epoch in range(1, trial.epochs + 1)]
    return [{"retrieval/mean_r1": recall * fraction, "geometry/gap": 2 - (2 - gap) * fraction} for fraction in grown]


def run(method="none", *, trials=60, sampler="random", seed=0, seeds=1, workers=4, epochs=9, every=1):
    sweep = sweep_config(
        training={"epochs": epochs, "evaluate_every": every},
        search={"sampler": sampler, "candidates": trials, "seed": seed, "seeds": seeds},
        early_stopping={"method": method},
    )
    return simulate(SPACE, sweep, curve, workers=workers)


def test_without_early_stopping_every_trial_has_its_full_budget():
    record, _ = run()
    assert record.count(State.COMPLETE) == 60
    assert epochs_spent(record) == 60 * 9


def test_virtual_time_is_the_total_divided_by_the_workers():
    record, _ = run(workers=4)
    assert record.updated_at == 60 * 9 / 4


@pytest.mark.parametrize("every", [1, 2, 4, 9])
def test_fewer_reports_take_the_same_time_and_end_with_the_same_values(every):
    record, _ = run(every=every)
    assert record.updated_at == 60 * 9 / 4
    for trial in record.trials.values():
        assert [report.epoch for report in trial.reports] == [*range(every, 9, every), 9]
        assert trial.last == curve(trial)[-1]


@pytest.mark.parametrize("method", ["none", "asha", "random"])
def test_sweep_is_reproducible_and_its_events_restore_it(method):
    record, events = run(method)
    again, _ = run(method)
    assert again == record
    assert replay(events) == record


@pytest.mark.whole
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_asha_saves_half_of_the_epochs_and_keeps_the_hypervolume(sampler):
    for seed in range(3):
        full, _ = run(sampler=sampler, seed=seed)
        halved, _ = run("asha", sampler=sampler, seed=seed)
        assert epochs_spent(halved) <= 0.5 * epochs_spent(full)
        assert summarize(halved).hypervolume >= 0.93 * summarize(full).hypervolume


@pytest.mark.whole
def test_asha_beats_random_stopping_at_the_same_fractions():
    def mean(method):
        return sum(summarize(run(method, seed=seed)[0]).hypervolume for seed in range(10)) / 10

    assert mean("asha") > mean("random") + 0.01


def test_every_trial_ends_and_only_full_budgets_are_complete():
    record, _ = run("asha", seeds=2, trials=30)
    assert len(record.trials) == 60
    for trial in record.trials.values():
        assert trial.state.ended
        assert (trial.state is State.COMPLETE) == (trial.epoch == trial.epochs)
        assert (trial.reason is None) == (trial.state is State.COMPLETE)
