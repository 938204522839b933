from __future__ import annotations

from typing import Any

import pytest

from gaptune.config import TrialConfig, flatten, with_params
from gaptune.errors import UserError
from gaptune.space.methods import METHODS, expand_method, name_method


def config_of(params: dict[str, Any]) -> TrialConfig:
    return with_params(TrialConfig(), expand_method(params))


@pytest.mark.parametrize("name", METHODS)
def test_method_name_is_the_family_name(name: str) -> None:
    family = name.removesuffix(name[-3:]) if name.startswith("TS S") else name  # the name does not contain the setting
    assert name_method(config_of({"method": name})) == family


def test_methods_have_different_parameters() -> None:
    configs = [config_of({"method": name}) for name in METHODS]
    assert all(configs.count(config) == 1 for config in configs)


def test_baseline_equals_the_default_trial() -> None:
    assert config_of({"method": "Baseline"}) == TrialConfig()


def test_methods_have_the_settings_of_the_paper() -> None:
    temperatures = {name: config_of({"method": name}).temperature for name in METHODS}
    assert temperatures["FLT"].tau_start == 4e-2
    assert [temperatures[f"TS S{level}"].tau_start for level in range(4)] == [1e-2] * 4
    assert [temperatures[f"TS S{level}"].tau_end for level in range(4)] == [2e-2, 3e-2, 4e-2, 5e-2]
    assert temperatures["SLRT"].lr_multiplier == 0.1
    assert config_of({"method": "HS"}).swap.probability == 1e-3
    assert config_of({"method": "SS"}).swap.probability == 5e-2


def test_explicit_params_override_the_method() -> None:
    assert config_of({"method": "FLT", "temperature.tau_start": 0.1}).temperature.tau_start == 0.1
    assert config_of({"temperature.tau_start": 0.1, "method": "FLT"}).temperature.tau_start == 0.1


def test_expanding_does_not_change_its_argument_or_the_table() -> None:
    before = flatten(config_of({"method": "HS"}))
    given = {"method": "HS", "seed": 1}
    expand_method(given)["swap.kind"] = "soft"
    assert given == {"method": "HS", "seed": 1}
    assert flatten(config_of({"method": "HS"})) == before


def test_params_without_a_method_are_unchanged() -> None:
    assert expand_method({"seed": 3}) == {"seed": 3}


def test_unknown_method_error_suggests_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"unknown method 'SLTR' \(did you mean 'SLRT'\?\)"):
        expand_method({"method": "SLTR"})


@pytest.mark.parametrize("name", [["FLT"], {}, None, 3])
def test_method_name_that_is_not_text_is_refused(name: object) -> None:
    with pytest.raises(UserError, match="unknown method"):
        expand_method({"method": name})


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"method": "TR softplus", "swap.kind": "soft"}, "TR softplus + SS"),
        ({"method": "TR exp/s", "temperature.lr_multiplier": 0.5}, "TR exp/s + SLRT"),
        ({"temperature.schedule": "cosine", "swap.kind": "hard"}, "TS cosine + HS"),
        ({"temperature.schedule": "constant", "temperature.lr_multiplier": 0.1}, "FLT"),
        ({"temperature.lr_multiplier": 10.0}, "Baseline"),
        ({"swap.kind": "hard", "swap.probability": 0.0}, "Baseline"),
    ],
)
def test_name_contains_all_parts_of_the_method(params: dict[str, Any], name: str) -> None:
    assert name_method(config_of(params)) == name
