"""What every sampler and every stopping method has to keep: suites that the tests of each one inherit.

A new one needs a class with its name, which ``test_conformance.py`` requires for every entry of the registries::

    class TestMine(SamplerConformance):
        sampler = "mine"
"""

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import header, sweep_config

from gaptune.config import EarlyStoppingConfig, TrialConfig, flatten
from gaptune.ledger import State, SweepRecord, TrialRecord, replay
from gaptune.ledger.opening import Opened
from gaptune.search.early_stopping import STOPPING_METHODS, EarlyStopping
from gaptune.search.identity import num_candidates
from gaptune.search.orchestrator import Orchestrator
from gaptune.search.study import Study
from gaptune.simulation.play import Clock, MemoryLog, play
from gaptune.space.parse import parse_space

CONDITIONAL = parse_space(
    {
        "name": "conditional",
        "params": {
            "temperature.schedule": {"choice": ["constant", "linear"]},
            "temperature.tau_start": {"log_uniform": [0.01, 0.5]},
            "temperature.tau_end": {"log_uniform": [0.01, 0.5], "when": {"temperature.schedule": ["linear"]}},
            "training.batch_size": {"integer": [64, 256], "step": 64},
        },
        "points_to_evaluate": [
            {"temperature.schedule": "linear"},
            {"temperature.schedule": "constant", "temperature.tau_start": 0.07},
        ],
    }
)
FINITE = parse_space(
    {
        "name": "finite",
        "params": {
            "temperature.schedule": "constant",
            "temperature.tau_start": {"choice": [0.01, 0.02, 0.04]},
            "training.batch_size": {"integer": [64, 192], "step": 64},
        },
        "points_to_evaluate": [{"temperature.tau_start": 0.04, "training.batch_size": 128}],
    }
)
GRID = replace(FINITE, name="grid", points_to_evaluate=(), grid=True)


def metrics_of(params, epoch=2):
    """A smooth landscape with its best near tau_start 0.05."""
    miss = abs(math.log(params["temperature.tau_start"] / 0.05)) / 3 + params["training.batch_size"] / 1000
    return {"retrieval/mean_r1": max(0.0, 0.6 - miss) * epoch / 2, "geometry/gap": 0.2 + miss / epoch}


def outcome_of(params):
    return list(metrics_of(params).values())


def end_of(number):
    return State.FAIL if number % 7 == 5 else State.COMPLETE


def draw(study, numbers, pending=()):
    """Asks for candidates one after the other, and ends each one that is not to stay pending."""
    drawn = []
    for number in numbers:
        given, params = study.ask()
        assert given == number
        drawn.append((number, params, study.notes(number)))
        if number not in pending:
            study.tell(number, end_of(number), outcome_of(params), [0.0, 0.0], {"geometry/gap": -0.1})
    return drawn


def resumed(sweep, space, drawn, pending=(), known=()):
    study = Study(space, sweep, "x", known=known)
    for number, params, notes in drawn:
        state = State.RUNNING if number in pending else end_of(number)
        outcome = (outcome_of(params), [0.0, 0.0], {"geometry/gap": -0.1})
        study.resume(params, state, *outcome, candidate=number, notes=notes)
    return study


def known_from(drawn):
    return [(params, outcome_of(params), {"geometry/gap": -0.1}) for _, params, _ in drawn]


def run(space, sweep, events=()):
    """A sweep in the simulator, from some events of an earlier driver; returns its events and its record."""
    log, clock = MemoryLog(), Clock()
    log.events = list(events) or [header(sweep, space)]
    record = replay(log.events)
    clock.now = record.updated_at
    orchestrator = Orchestrator.resume(
        Opened(log.events[:], record, (-1, -1)),
        log,
        Study(space, sweep, "s"),
        sweep,
        num_candidates=num_candidates(space, sweep),
        clock=clock,
    )
    curve = lambda trial: [metrics_of(trial.config, epoch) for epoch in range(1, trial.epochs + 1)]  # noqa: E731
    play(orchestrator, curve, clock, workers=1)
    return log.events, record


def what_happened(record: SweepRecord):
    return [
        (trial.number, trial.candidate, trial.params, trial.config["seed"], trial.state, trial.epoch, trial.last)
        for trial in record.trials.values()
    ]


def assert_cut_changes_nothing(space, sweep, cut):
    """A sweep whose driver was killed after some events ends as one that was never interrupted."""
    events, whole = run(space, sweep)
    _, again = run(space, sweep, events[: min(cut, len(events))])
    assert what_happened(again) == what_happened(whole)
    pairs = [(str(trial.params), trial.config["seed"]) for trial in again.trials.values()]
    assert len(set(pairs)) == len(pairs) == num_candidates(space, sweep) * sweep.search.seeds


class SamplerConformance:
    """What every sampler keeps.

    Attributes:
        sampler: Name of the sampler.
        learns: Whether outcomes change its draws.
        count: Number of candidates to draw.
        cuts: After how many of them a study is interrupted, from the end if negative; each one anew.
        swept: Number of candidates of a sweep that is interrupted.
    """

    sampler = ""
    learns = True
    count = 24
    cuts = (1, 2, 5, 11, -1)
    swept = 9

    @classmethod
    def sweep(cls, **changes):
        search = {"sampler": cls.sampler, "candidates": cls.count, "startup_trials": 4, "seed": 3}
        return sweep_config(search=search, constraints=[{"metric": "geometry/gap", "max": 1.5}], **changes)

    @classmethod
    @cache
    def uninterrupted(cls):
        """What the sampler draws in one go; once for all tests, because some samplers take long."""
        return draw(Study(CONDITIONAL, cls.sweep(), "x"), range(cls.count))

    def test_interrupted_study_draws_as_uninterrupted_one(self):
        whole = self.uninterrupted()
        for cut in (each % self.count for each in self.cuts):
            again = resumed(self.sweep(), CONDITIONAL, whole[:cut])
            assert draw(again, range(cut, self.count)) == whole[cut:], f"interrupted after {cut}"

    def test_study_interrupted_with_candidates_in_training_draws_as_uninterrupted_one(self):
        sweep, pending = self.sweep(), (7, 9)
        whole = draw(Study(CONDITIONAL, sweep, "x"), range(16), pending)
        again = resumed(sweep, CONDITIONAL, whole[:10], pending)
        assert draw(again, range(10, 16)) == whole[10:]
        for number in pending:  # they can still be told
            again.tell(number, State.COMPLETE, outcome_of(whole[number][1]), [0.0, 0.0], {})

    def test_warm_started_study_interrupted_twice_draws_as_uninterrupted_one(self):
        sweep = self.sweep()
        known = known_from(draw(Study(CONDITIONAL, self.sweep(), "w"), range(8)))
        whole = draw(Study(CONDITIONAL, sweep, "x", known=known), range(self.count))
        first = resumed(sweep, CONDITIONAL, whole[:4], known=known)
        assert draw(first, range(4, 13)) == whole[4:13]
        second = resumed(sweep, CONDITIONAL, whole[:13], known=known)
        assert draw(second, range(13, self.count)) == whole[13:]

    def test_warm_start_changes_draws_only_of_samplers_that_learn(self):
        space = replace(CONDITIONAL, points_to_evaluate=())
        found = draw(Study(space, sweep_config(search={"sampler": "random", "seed": 9}), "w"), range(32))
        known = known_from(found)
        cold = draw(Study(space, self.sweep(), "x"), range(8))
        warm = draw(Study(space, self.sweep(), "x", known=known), range(8))
        assert ([params for _, params, _ in warm] != [params for _, params, _ in cold]) == self.learns
        if self.learns:
            best = [sum(outcome_of(params)[:1]) for _, params, _ in warm]
            assert sum(best) > sum(outcome_of(params)[0] for _, params, _ in cold)

    def test_draws_lie_in_conditional_space_and_begin_with_its_points(self):
        drawn = [params for _, params, _ in self.uninterrupted()]
        assert drawn[:2] == list(CONDITIONAL.points_to_evaluate)
        for params in drawn:
            assert params in CONDITIONAL
            assert ("temperature.tau_end" in params) == (params["temperature.schedule"] == "linear")

    def test_finite_space_is_drawn_once_each_and_then_exhausted(self):
        study = Study(FINITE, self.sweep(), "x")
        drawn = [params for _, params, _ in draw(study, range(9))]
        assert drawn[0] == FINITE.points_to_evaluate[0]
        assert sorted(map(str, drawn)) == sorted(map(str, FINITE.combinations()))
        assert study.ask() is None

    def test_violated_constraints_and_every_state_are_taken(self):
        study = Study(CONDITIONAL, self.sweep(), "x")
        states = [State.COMPLETE, State.PRUNED, State.FAIL]
        for number in range(12):
            _, params = study.ask()
            violation = {"geometry/gap": 0.3 if number % 2 else -0.3}
            study.tell(number, states[number % 3], outcome_of(params), [0.1, 0.1], violation)
        complete = [trial for trial in study.study.trials if trial.state.name == "COMPLETE"]
        assert [trial.constraints["geometry/gap"] > 0 for trial in complete] == [False, True, False, True]

    def test_seed_decides_the_draws(self):
        space = replace(CONDITIONAL, points_to_evaluate=())
        one, same, other = (
            draw(Study(space, sweep_config(search={"sampler": self.sampler, "seed": seed}), "x"), range(3))
            for seed in (3, 3, 4)
        )
        assert one == same != other

    @given(cut=st.integers(2, 60), seeds=st.integers(1, 3), method=st.sampled_from(["none", *STOPPING_METHODS]))
    @settings(max_examples=12, suppress_health_check=list(HealthCheck))
    def test_sweep_cut_at_any_event_ends_as_uninterrupted_one(self, cut, seeds, method):
        sweep = sweep_config(
            search={"sampler": self.sampler, "candidates": self.swept, "startup_trials": 3, "seeds": seeds},
            training={"epochs": 3},
            early_stopping={"method": method, "min_fraction": 0.3, "schedule_aware": False},
        )
        assert_cut_changes_nothing(CONDITIONAL, sweep, cut)


def trial_of(number, *, candidate=None, epochs=9, **temperature):
    """A trial under way; ``temperature`` changes its schedule."""
    config = flatten(TrialConfig()) | {"training.epochs": epochs}
    config |= {f"temperature.{name}": value for name, value in temperature.items()}
    return TrialRecord(number, number if candidate is None else candidate, {}, config, "", 0.0)


SHARED = settings(max_examples=50, suppress_health_check=[HealthCheck.differing_executors])
"""Of tests that several classes inherit, which hypothesis takes for one test run in several ways."""

POINTS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=30)


class StoppingConformance:
    """What every stopping method keeps.

    Attributes:
        method: Name of the method.
    """

    method = ""

    def config(self, **changes):
        return EarlyStoppingConfig.model_validate({"method": self.method, "reduction_factor": 3.0} | changes)

    def reasons(self, points, *, epoch=1, **changes):
        """What is decided of candidates that come to the first rung one after the other."""
        stopping = EarlyStopping(self.config(**changes))
        return [stopping.decide(trial_of(i), epoch, tuple(map(float, one))) for i, one in enumerate(points)]

    def continues(self, points, **changes):
        return [reason is None for reason in self.reasons(points, **changes)]

    @SHARED
    @given(POINTS)
    def test_same_reports_give_same_decisions(self, points):
        assert self.reasons(points) == self.reasons(points)

    @SHARED
    @given(POINTS, st.integers(0, 30))
    def test_method_rebuilt_from_earlier_reports_decides_as_before(self, points, cut):
        whole = self.reasons(points)
        assert self.reasons(points[:cut]) == whole[:cut]  # nothing that comes later counts

    def test_first_candidate_of_a_rung_continues(self):
        assert self.continues([(0, 0)]) == [True]

    def test_some_candidates_are_stopped_and_some_continue(self):
        kept = np.mean(self.continues(np.random.default_rng(0).normal(size=(300, 2))))
        assert 0.2 < kept < 0.45

    def test_missing_objective_stops_the_candidate_and_does_not_count(self):
        points = [(float(value), float(value)) for value in (6, 5, 4, 3, 2, 1)]
        stopping = EarlyStopping(self.config())
        for number in range(4):
            why = stopping.decide(trial_of(100 + number), 1, (1.0, math.nan))
            assert "an objective is missing or not a number" in why
        assert [stopping.decide(trial_of(i), 1, point) for i, point in enumerate(points)] == self.reasons(points)

    def test_candidate_at_its_full_budget_is_never_stopped(self):
        assert self.continues([(0, 0)] * 30, epoch=9) == [True] * 30

    def test_reason_names_rung_rank_and_number_of_candidates(self):
        reasons = [reason for reason in self.reasons([(0, 0)] * 30) if reason]
        assert all(reason.startswith("rung 11%: rank ") and " may continue" in reason for reason in reasons)
        assert reasons

    def test_seeds_of_a_candidate_are_decided_on_together(self):
        stopping = EarlyStopping(self.config(), seeds=2)
        for candidate in range(12):
            first = trial_of(2 * candidate, candidate=candidate)
            assert stopping.decide(first, 1, (1.0, 1.0)) is None  # its other seed is still missing

    @SHARED
    @given(POINTS)
    def test_reports_of_another_rung_change_no_decision(self, points):
        stopping, longer = EarlyStopping(self.config()), 100
        found = []
        for number, point in enumerate(points):
            found.append(stopping.decide(trial_of(number), 1, tuple(map(float, point))))
            stopping.decide(trial_of(longer + number), 3, (9.0 * number, -9.0))
        assert found == self.reasons(points)

    @pytest.mark.parametrize("cut", [1, 7, 23, 40])
    def test_sweep_cut_at_an_event_rebuilds_its_rungs_from_the_ledger(self, cut):
        sweep = sweep_config(
            search={"sampler": "random", "candidates": 16},
            training={"epochs": 9},
            early_stopping=json.loads(self.config().model_dump_json()),
        )
        space = replace(CONDITIONAL, points_to_evaluate=())
        assert_cut_changes_nothing(space, sweep, cut)


class RankingConformance(StoppingConformance):
    """What a method that ranks candidates by their objectives keeps, too."""

    @SHARED
    @given(POINTS, st.integers(1, 5), st.integers(-9, 9))
    def test_scale_and_offset_of_an_objective_change_no_decision(self, points, scale, offset):
        other = [(x * scale + offset, y) for x, y in points]
        assert self.continues(points) == self.continues(other)

    @SHARED
    @given(POINTS)
    def test_candidate_that_is_dominated_by_all_before_it_is_stopped(self, points):
        worst = (min(x for x, _ in points) - 1, min(y for _, y in points) - 1)
        assert not self.continues([*points, worst])[-1]

    @pytest.mark.parametrize("priority", ["epsilon_net", "crowding", "hypervolume"])
    @SHARED
    @given(points=POINTS)
    def test_candidate_that_dominates_all_before_it_continues(self, priority, points):
        best = (max(x for x, _ in points) + 1, max(y for _, y in points) + 1)
        assert self.continues([*points, best], priority=priority)[-1]
