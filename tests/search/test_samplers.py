"""Samplers remember: what was found before decides the next draw, however often the sweep was interrupted.

``SamplerSuite`` says what every sampler has to keep; each has a class that inherits it.
"""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import header, sweep_config

from gaptune.ledger import State, SweepRecord, replay
from gaptune.search.identity import num_candidates
from gaptune.search.orchestrator import Orchestrator
from gaptune.search.study import Study
from gaptune.simulation.play import Clock, MemoryLog, play
from gaptune.space.parse import parse_space

SPACE = parse_space(
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
GRID = parse_space(
    {
        "name": "grid",
        "params": {
            name: parameter.to_dict() for name, parameter in ((k.name, k.distribution) for k in FINITE.parameters)
        },
    }
    | {"grid": True}
)


def scores(params, epoch=2):
    """A smooth landscape with its best near tau_start 0.05."""
    miss = abs(math.log(params["temperature.tau_start"] / 0.05)) / 3 + params["training.batch_size"] / 1000
    return {"retrieval/mean_r1": max(0.0, 0.6 - miss) * epoch / 2, "geometry/gap": 0.2 + miss / epoch}


def outcome_of(params):
    return list(scores(params).values())


def draw(study, numbers, pending=()):
    """Asks for some candidates one after the other, and ends each but those that stay pending."""
    drawn = []
    for number in numbers:
        given, params = study.ask()
        assert given == number
        drawn.append((number, params, study.notes(number)))
        if number not in pending:
            state = State.FAIL if number % 7 == 5 else State.COMPLETE
            study.tell(number, state, outcome_of(params), [0.0, 0.0], {"geometry/gap": -0.1})
    return drawn


def resumed(sweep, space, drawn, pending=(), known=()):
    study = Study(space, sweep, "x", known=known)
    for number, params, notes in drawn:
        state = State.RUNNING if number in pending else State.FAIL if number % 7 == 5 else State.COMPLETE
        outcome = (outcome_of(params), [0.0, 0.0], {"geometry/gap": -0.1})
        study.resume(params, state, *outcome, candidate=number, notes=notes)
    return study


def known_from(drawn):
    return [(params, outcome_of(params), {"geometry/gap": -0.1}) for _, params, _ in drawn]


class SamplerSuite:
    """What every sampler keeps. ``sampler`` names it; ``learns`` says whether outcomes change its draws."""

    sampler = ""
    learns = True
    count = 24

    def sweep(self, **changes):
        search = {"sampler": self.sampler, "candidates": self.count, "startup_trials": 4, "seed": 3}
        return sweep_config(search=search, constraints=[{"metric": "geometry/gap", "max": 1.5}], **changes)

    @pytest.mark.parametrize("cut", [1, 2, 5, 11, 17])
    def test_an_interrupted_study_draws_as_an_uninterrupted_one(self, cut):
        sweep = self.sweep()
        whole = draw(Study(SPACE, sweep, "x"), range(self.count))
        again = resumed(sweep, SPACE, whole[:cut])
        assert draw(again, range(cut, self.count)) == whole[cut:]

    def test_so_it_does_with_suggestions_still_being_trained(self):
        sweep, pending = self.sweep(), (7, 9)
        whole = draw(Study(SPACE, sweep, "x"), range(16), pending)
        again = resumed(sweep, SPACE, whole[:10], pending)
        assert draw(again, range(10, 16)) == whole[10:]
        for number in pending:  # they can still be told
            again.tell(number, State.COMPLETE, outcome_of(whole[number][1]), [0.0, 0.0], {})

    def test_and_twice_interrupted_and_warm_started(self):
        sweep = self.sweep()
        known = known_from(draw(Study(SPACE, self.sweep(), "w"), range(8)))
        whole = draw(Study(SPACE, sweep, "x", known=known), range(self.count))
        first = resumed(sweep, SPACE, whole[:4], known=known)
        assert draw(first, range(4, 13)) == whole[4:13]
        second = resumed(sweep, SPACE, whole[:13], known=known)
        assert draw(second, range(13, self.count)) == whole[13:]

    def test_a_warm_start_changes_the_draws_if_outcomes_do(self):
        space = parse_space(SPACE.to_dict() | {"points_to_evaluate": []})
        found = draw(Study(space, sweep_config(search={"sampler": "random", "seed": 9}), "w"), range(32))
        known = known_from(found)
        cold = draw(Study(space, self.sweep(), "x"), range(8))
        warm = draw(Study(space, self.sweep(), "x", known=known), range(8))
        assert ([params for _, params, _ in warm] != [params for _, params, _ in cold]) == self.learns
        if self.learns:
            best = [sum(outcome_of(params)[:1]) for _, params, _ in warm]
            assert sum(best) > sum(outcome_of(params)[0] for _, params, _ in cold)

    def test_nothing_is_drawn_twice_and_all_that_there_is_once(self):
        study = Study(FINITE, self.sweep(), "x")
        drawn = [params for _, params, _ in draw(study, range(9))]
        assert drawn[0] == FINITE.points_to_evaluate[0]
        assert sorted(map(str, drawn)) == sorted(map(str, FINITE.combinations()))
        assert study.ask() is None

    @given(cut=st.integers(2, 60), seeds=st.integers(1, 3), rule=st.sampled_from(["none", "asha"]))
    @settings(max_examples=12, suppress_health_check=list(HealthCheck))
    def test_a_sweep_cut_at_any_line_of_its_ledger_ends_as_it_would_have(self, cut, seeds, rule):
        search = {"sampler": self.sampler, "candidates": 9, "startup_trials": 3, "seeds": seeds}
        sweep = sweep_config(
            search=search,
            training={"epochs": 3},
            early_stopping={"method": rule, "min_fraction": 0.3, "schedule_aware": False},
        )
        assert_cut_changes_nothing(SPACE, sweep, cut)


class TestTpe(SamplerSuite):
    sampler = "tpe"


class TestNsga2(SamplerSuite):
    sampler = "nsga2"
    count = 30

    def test_a_resumed_population_has_the_parents_that_it_had(self):
        sweep = self.sweep()
        whole = draw(Study(SPACE, sweep, "x"), range(self.count))
        parents = {number: notes["parents"] for number, _, notes in whole if "parents" in notes}
        assert len(parents) >= 3
        assert max(notes["generation"] for _, _, notes in whole) >= 3

    def test_a_ledger_without_notes_is_counted_off_in_generations(self):
        sweep = self.sweep()
        whole = draw(Study(SPACE, sweep, "x"), range(16))
        again = resumed(sweep, SPACE, [(number, params, {}) for number, params, _ in whole])
        again.ask()
        assert again.notes(16)["generation"] >= 3


class TestGp(SamplerSuite):
    sampler = "gp"
    count = 18


class TestRandom(SamplerSuite):
    sampler = "random"
    learns = False


def run(space, sweep, events=()):
    """A sweep in the simulator, from some events of an earlier driver; returns its events and its record."""
    log, clock = MemoryLog(), Clock()
    log.events = list(events) or [header(sweep, space)]
    record = replay(log.events)
    clock.now = record.updated_at
    orchestrator = Orchestrator(
        record,
        log,
        Study(space, sweep, "s"),
        sweep,
        num_candidates=num_candidates(space, sweep),
        earlier=log.events,
        clock=clock,
    )
    curve = lambda trial: [scores(trial.config, epoch) for epoch in range(1, trial.epochs + 1)]  # noqa: E731
    play(orchestrator, curve, clock, workers=1)
    return log.events, record


def what_happened(record: SweepRecord):
    return [
        (trial.number, trial.candidate, trial.params, trial.config["seed"], trial.state, trial.epoch, trial.last)
        for trial in record.trials.values()
    ]


def assert_cut_changes_nothing(space, sweep, cut):
    events, whole = run(space, sweep)
    _, again = run(space, sweep, events[: min(cut, len(events))])
    assert what_happened(again) == what_happened(whole)
    pairs = [(str(trial.params), trial.config["seed"]) for trial in again.trials.values()]
    assert len(set(pairs)) == len(pairs) == num_candidates(space, sweep) * sweep.search.seeds


@given(cut=st.integers(1, 70), seeds=st.integers(1, 2))
@settings(max_examples=20)
def test_a_grid_cut_anywhere_is_completed_once(cut, seeds):
    assert_cut_changes_nothing(GRID, sweep_config(search={"sampler": "grid", "seeds": seeds}), cut)


@given(st.sets(st.integers(0, 8), min_size=1))
def test_the_next_of_a_grid_is_what_the_ledger_lacks_not_what_a_count_says(lost):
    sweep = sweep_config(search={"sampler": "grid"})
    events, _ = run(GRID, sweep)
    left = [event for event in events if event.get("trial") not in lost]
    _, again = run(GRID, sweep, left)
    assert sorted(str(trial.params) for trial in again.trials.values()) == sorted(map(str, GRID.combinations()))
