"""The temperature: parameterizations, bounds and schedules."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaptune.config import ConstraintConfig, TemperatureConfig
from gaptune.ledger import Constraint
from gaptune.trial.temperature import LogitScale, beta_of, nu_of, scheduled_tau

PARAMETERIZATIONS = {
    "exp": (TemperatureConfig(parameterization="exp"), math.exp, math.exp),
    "exp_scaled": (
        TemperatureConfig(parameterization="exp_scaled", scale=3.0),
        lambda nu: math.exp(nu / 3),
        lambda nu: math.exp(nu / 3) / 3,
    ),
    "softplus": (
        TemperatureConfig(parameterization="softplus"),
        lambda nu: math.log1p(math.exp(nu)),
        lambda nu: 1 / (1 + math.exp(-nu)),
    ),
}
each_parameterization = pytest.mark.parametrize("name", PARAMETERIZATIONS)


@each_parameterization
@given(nu=st.floats(-3.0, 6.0))
def test_beta_and_its_derivative_are_the_closed_forms(name, nu):
    params, beta, derivative = PARAMETERIZATIONS[name]
    leaf = torch.tensor(nu, dtype=torch.float64, requires_grad=True)
    found = beta_of(leaf, params)
    found.backward()
    assert found.item() == pytest.approx(beta(nu), rel=1e-9)
    assert float(leaf.grad) == pytest.approx(derivative(nu), rel=1e-9)


@each_parameterization
@given(beta=st.floats(0.1, 500.0))
def test_nu_is_the_inverse_of_beta(name, beta):
    params = PARAMETERIZATIONS[name][0]
    nu = torch.tensor(nu_of(beta, params), dtype=torch.float64)
    assert beta_of(nu, params).item() == pytest.approx(beta, rel=1e-9)
    assert beta_of(nu.float(), params).item() == pytest.approx(beta, rel=1e-5)


@each_parameterization
@pytest.mark.parametrize("tau", [0.07, 0.5, 3.0])
def test_learned_temperature_starts_at_tau_init_and_has_a_gradient(name, tau):
    params = PARAMETERIZATIONS[name][0].model_copy(update={"tau_init": tau})
    scale = LogitScale(params)
    assert scale.beta().item() == pytest.approx(1 / tau, rel=1e-5)
    scale.beta().backward()
    assert scale.nu.grad > 0


@each_parameterization
def test_clamp_keeps_clips_bound_of_beta_100(name):
    scale = LogitScale(PARAMETERIZATIONS[name][0])
    with torch.no_grad():
        scale.nu.fill_(1_000.0)
    scale.clamp()
    assert scale.beta().item() == pytest.approx(100.0, rel=1e-5)
    with torch.no_grad():
        scale.nu.fill_(-5.0)
    scale.clamp()
    assert scale.nu.item() == -5.0  # tau_max is off by default


def test_clamp_can_be_switched_off_and_bound_from_above():
    off = LogitScale(TemperatureConfig(tau_min=None))
    with torch.no_grad():
        off.nu.fill_(6.0)
    off.clamp()
    assert off.nu.item() == 6.0
    above = LogitScale(TemperatureConfig(tau_min=None, tau_max=0.5))
    with torch.no_grad():
        above.nu.fill_(-6.0)
    above.clamp()
    assert 1 / above.beta().item() == pytest.approx(0.5, rel=1e-5)


def test_clamp_does_not_change_values_within_the_bounds():
    scale = LogitScale(TemperatureConfig(tau_min=0.01, tau_max=1.0, tau_init=0.07))
    before = scale.nu.item()
    scale.clamp()
    assert scale.nu.item() == before


MOVING = {"tau_start": 0.01, "tau_end": 0.05, "schedule_fraction": 0.8}


@pytest.mark.parametrize(
    ("schedule", "middle"),
    [("linear", 0.03), ("cosine", 0.03), ("exponential", math.sqrt(0.01 * 0.05)), ("step", 0.01 + 0.04 * 2 / 3)],
)
def test_schedule_goes_from_its_start_to_its_end_and_stays_there(schedule, middle):
    params = TemperatureConfig(schedule=schedule, **MOVING)
    assert scheduled_tau(params, Fraction(0, 1)) == pytest.approx(0.01)
    assert scheduled_tau(params, Fraction(2, 5)) == pytest.approx(middle)
    for progress in (Fraction(4, 5), Fraction(9, 10), Fraction(1)):
        assert scheduled_tau(params, progress) == pytest.approx(0.05)


def test_cosine_is_slow_at_both_ends():
    params = TemperatureConfig(schedule="cosine", **MOVING)
    assert scheduled_tau(params, Fraction(1, 5)) == pytest.approx(0.01 + 0.04 * (1 - math.cos(math.pi / 4)) / 2)


def test_step_schedule_has_as_many_equally_long_levels_as_asked():
    params = TemperatureConfig(schedule="step", tau_start=0.01, tau_end=0.05, steps=5)
    taus = [round(scheduled_tau(params, Fraction(step, 100)), 9) for step in range(100)]
    assert sorted(set(taus)) == [0.01, 0.02, 0.03, 0.04, 0.05]
    assert [taus.count(level) for level in sorted(set(taus))] == [20] * 5


@given(
    steps=st.integers(1, 2000),
    levels=st.integers(2, 40),
    hundredths=st.integers(1, 100),
    ends=st.tuples(st.integers(1, 1000), st.integers(1, 1000)),
)
def test_step_schedule_is_at_the_level_that_whole_numbers_say(steps, levels, hundredths, ends):
    start, end = (each / 1000 for each in ends)
    params = TemperatureConfig(
        schedule="step", tau_start=start, tau_end=end, steps=levels, schedule_fraction=hundredths / 100
    )
    for step in {0, steps // 3, steps // 2, steps * hundredths // 100, steps}:
        level = min(step * 100 * levels // (steps * hundredths), levels - 1)
        exact = Fraction(ends[0], 1000) + Fraction(ends[1] - ends[0], 1000) * Fraction(level, levels - 1)
        assert scheduled_tau(params, Fraction(step, steps)) == pytest.approx(float(exact), rel=1e-12)
        if level in (0, levels - 1):
            assert scheduled_tau(params, Fraction(step, steps)) == (end if level else start)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "exponential", "step"])
@given(
    ends=st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6)), steps=st.integers(1, 500), fraction=st.floats(0.01, 1.0)
)
def test_schedule_starts_and_ends_at_its_exact_values(schedule, ends, steps, fraction):
    params = TemperatureConfig(schedule=schedule, tau_start=ends[0], tau_end=ends[1], schedule_fraction=fraction)
    assert LogitScale(params).tau(Fraction(0)) == ends[0]
    assert LogitScale(params).tau(Fraction(steps, steps)) == ends[1]


def test_constant_temperature_stays_at_its_start():
    params = TemperatureConfig(schedule="constant", **MOVING)
    assert {
        scheduled_tau(params, progress) for progress in (Fraction(0), Fraction(2, 5), Fraction(4, 5), Fraction(1))
    } == {0.01}


@given(
    schedule=st.sampled_from(["linear", "cosine", "exponential", "step"]),
    ends=st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)),
    fraction=st.floats(0.05, 1.0),
    when=st.tuples(st.fractions(0, 1), st.fractions(0, 1)),
)
def test_schedule_moves_one_way_and_stays_between_its_ends(schedule, ends, fraction, when):
    params = TemperatureConfig(schedule=schedule, tau_start=ends[0], tau_end=ends[1], schedule_fraction=fraction)
    taus = [scheduled_tau(params, progress) for progress in sorted(when)]
    assert all(min(ends) - 1e-12 <= tau <= max(ends) + 1e-12 for tau in taus)
    assert (taus[1] - taus[0]) * (ends[1] - ends[0]) >= -1e-12


def test_scheduled_logit_scale_is_the_planned_one_and_has_nothing_to_learn():
    scale = LogitScale(TemperatureConfig(schedule="linear", **MOVING))
    assert scale.beta(1 / 0.03) == 1 / 0.03
    assert not scale.nu.requires_grad
    scale.clamp()
    assert scale.tau(Fraction(2, 5)) == pytest.approx(0.03)
    assert scale.tau(Fraction(1)) == pytest.approx(0.05)


TAUS = st.floats(math.log(1e-6), math.log(1e6)).map(lambda power: min(max(math.exp(power), 1e-6), 1e6))


@given(
    tau=TAUS,
    scale=TAUS,
    name=st.sampled_from(["constant", "exp", "exp_scaled", "softplus"]),
    side=st.sampled_from(["min", "max"]),
)
def test_temperature_at_a_constraints_bound_keeps_it_and_one_beyond_does_not(tau, scale, name, side):
    kind = {"schedule": "constant"} if name == "constant" else {"parameterization": name, "scale": scale}
    bounds = {"tau_min": None, "tau_max": None} | {f"tau_{side}": tau}
    fixed = LogitScale(TemperatureConfig(tau_start=tau, tau_init=tau, **bounds, **kind))
    fixed.clamp()
    reported = fixed.tau(Fraction(1))
    assert reported == tau
    planned = None if fixed.learned else 1.0 / reported
    assert 1.0 / float(torch.as_tensor(fixed.beta(planned)).detach()) == pytest.approx(tau, rel=2e-6)
    constraint = ConstraintConfig(metric="temperature/tau", **{side: tau})
    for value, kept in (
        (reported, True),
        (tau, True),
        (tau * (1.01 if side == "max" else 0.99), False),
        (math.nan, False),
    ):
        assert Constraint(**constraint.model_dump()).keeps(value) == kept
        assert (constraint.violation(value) <= 0) == kept
