"""Parameters that vary but have no effect."""

from pathlib import Path

import pytest

from gaptune.config import TrialConfig, flatten, parameter_fields, with_params
from gaptune.space.idle import MATTERS, idle_parameters
from gaptune.space.parse import load_space, parse_space

ROOT = Path(__file__).resolve().parents[2]
FRACTION = {"uniform": [0.1, 0.9]}
SCHEDULE = {"choice": ["learned", "constant"]}


def space(**params):
    return parse_space(
        {"name": "s", "params": {name.replace("__", "."): parameter for name, parameter in params.items()}}
    )


@pytest.mark.parametrize(
    ("params", "idle"),
    [
        ({"swap__probability": FRACTION}, ["swap.probability"]),
        ({"swap__probability": FRACTION, "swap__kind": "none"}, ["swap.probability"]),
        ({"swap__probability": FRACTION, "swap__kind": "soft"}, []),
        ({"swap__probability": FRACTION, "swap__kind": {"choice": ["none", "hard"]}}, []),
        ({"swap__probability": FRACTION, "method": {"choice": ["HS", "FLT"]}}, []),
        ({"swap__probability": FRACTION, "method": {"choice": ["SLRT", "FLT"]}}, ["swap.probability"]),
        ({"temperature__tau_end": FRACTION, "temperature__schedule": SCHEDULE}, ["temperature.tau_end"]),
        ({"temperature__tau_start": FRACTION, "temperature__schedule": SCHEDULE}, []),
        ({"temperature__tau_start": FRACTION}, ["temperature.tau_start"]),
        ({"temperature__scale": {"uniform": [1.0, 4.0]}}, ["temperature.scale"]),
        (
            {
                "temperature__schedule": SCHEDULE,
                "temperature__parameterization": {
                    "choice": ["exp", "exp_scaled"],
                    "when": {"temperature.schedule": "constant"},
                },
                "temperature__scale": {
                    "uniform": [1.0, 4.0],
                    "when": {"temperature.parameterization": "exp_scaled"},
                },
            },
            ["temperature.parameterization", "temperature.scale"],
        ),
        ({"optimizer__lr": FRACTION, "swap__probability": 0.5}, []),  # a fixed value wastes no trials
    ],
)
def test_parameter_without_effect_is_reported(params, idle):
    assert [sentence.split()[0] for sentence in idle_parameters(space(**params))] == idle


def test_sweep_config_can_give_a_parameter_its_effect():
    varied = space(swap__probability=FRACTION)
    (sentence,) = idle_parameters(varied)
    assert sentence.endswith("never the case in this space unless the sweep config sets it")
    assert idle_parameters(varied, flatten(with_params(TrialConfig(), {"swap.kind": "hard"}))) == []
    (sentence,) = idle_parameters(varied, flatten(TrialConfig()))
    assert sentence.endswith("never the case in this space")


def test_table_contains_only_valid_parameters_and_values():
    assert parameter_fields().keys() >= MATTERS.keys()
    for needs in MATTERS.values():
        for name, values in needs.items():
            for value in values:
                with_params(TrialConfig(), {name: value})


@pytest.mark.parametrize("file", sorted((ROOT / "search_spaces").glob("*.yaml")), ids=lambda file: file.stem)
def test_bundled_space_has_no_idle_parameter(file):
    assert idle_parameters(load_space(file)) == []


def test_space_in_docs_has_no_idle_parameter(tmp_path):
    block = (ROOT / "docs/guides/search-spaces.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "docs.yaml").write_text(block)
    assert idle_parameters(load_space(tmp_path / "docs.yaml")) == []
