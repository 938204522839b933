"""Parameters that vary for nothing."""

from pathlib import Path

import pytest

from gaptune.config import TrialConfig, flatten, parameter_fields, with_params
from gaptune.space.idle import MATTERS, idle_parameters
from gaptune.space.parse import load_space, parse_space

ROOT = Path(__file__).resolve().parents[2]
SHARE = {"uniform": [0.1, 0.9]}
SCHEDULE = {"choice": ["learned", "constant"]}


def space(**params):
    return parse_space(
        {"name": "s", "params": {name.replace("__", "."): parameter for name, parameter in params.items()}}
    )


@pytest.mark.parametrize(
    ("params", "idle"),
    [
        ({"swap__probability": SHARE}, ["swap.probability"]),
        ({"swap__probability": SHARE, "swap__kind": "none"}, ["swap.probability"]),
        ({"swap__probability": SHARE, "swap__kind": "soft"}, []),
        ({"swap__probability": SHARE, "swap__kind": {"choice": ["none", "hard"]}}, []),
        ({"swap__probability": SHARE, "method": {"choice": ["HS", "FLT"]}}, []),
        ({"swap__probability": SHARE, "method": {"choice": ["SLRT", "FLT"]}}, ["swap.probability"]),
        ({"temperature__tau_end": SHARE, "temperature__schedule": SCHEDULE}, ["temperature.tau_end"]),
        ({"temperature__tau_start": SHARE, "temperature__schedule": SCHEDULE}, []),
        ({"temperature__tau_start": SHARE}, ["temperature.tau_start"]),
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
        ({"optimizer__lr": SHARE, "swap__probability": 0.5}, []),  # a fixed value is no waste of trials
    ],
)
def test_a_knob_that_can_do_nothing_is_named(params, idle):
    assert [sentence.split()[0] for sentence in idle_parameters(space(**params))] == idle


def test_a_sweep_may_switch_on_what_the_space_leaves_alone():
    varied = space(swap__probability=SHARE)
    (sentence,) = idle_parameters(varied)
    assert sentence.endswith("no trial of this space, unless the sweep's YAML sets it")
    assert idle_parameters(varied, flatten(with_params(TrialConfig(), {"swap.kind": "hard"}))) == []
    (sentence,) = idle_parameters(varied, flatten(TrialConfig()))
    assert sentence.endswith("no trial of this space")


def test_the_table_names_knobs_and_values_that_there_are():
    assert parameter_fields().keys() >= MATTERS.keys()
    for needs in MATTERS.values():
        for name, values in needs.items():
            for value in values:
                with_params(TrialConfig(), {name: value})


@pytest.mark.parametrize("file", sorted((ROOT / "search_spaces").glob("*.yaml")), ids=lambda file: file.stem)
def test_no_shipped_space_has_one(file):
    assert idle_parameters(load_space(file)) == []


def test_no_space_of_the_docs_has_one(tmp_path):
    block = (ROOT / "docs/guides/search-spaces.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "docs.yaml").write_text(block)
    assert idle_parameters(load_space(tmp_path / "docs.yaml")) == []
