"""Identity of sweeps: which settings must be equal to resume a sweep."""

import io
import time
from dataclasses import replace

import pytest
import yaml
from rich.console import Console
from support import OBJECTIVES, Stage, header, sweep_config, write_yaml

from gaptune.config import load_sweep_config
from gaptune.console.live import Display
from gaptune.engine.plan import prepare
from gaptune.engine.session import run
from gaptune.errors import UserError
from gaptune.ledger import Ledger, SweepHeader, read_events, replay
from gaptune.ledger.backup import newer_ledger
from gaptune.results import candidates
from gaptune.search.identity import check_same, num_candidates
from gaptune.space.parse import parse_space
from gaptune.storage.folder import Folder

PARAMS = {
    "temperature.schedule": "constant",
    "temperature.tau_start": {"choice": [0.02, 0.04, 0.08]},
    "training.batch_size": {"integer": [64, 128], "step": 64},
}
POINT = {"temperature.tau_start": 0.04, "training.batch_size": 128}


def stored(space=None, **changes):
    content = {"name": "s", "params": PARAMS, "points_to_evaluate": [POINT], "grid": False} | (space or {})
    return SweepHeader.parse(header(sweep_config(**changes), parse_space(content)) | {"weights": "a"})


CHANGED = {
    "a point more": stored({"points_to_evaluate": [POINT, POINT | {"temperature.tau_start": 0.02}]}),
    "a point less": stored({"points_to_evaluate": []}),
    "another point": stored({"points_to_evaluate": [POINT | {"temperature.tau_start": 0.08}]}),
    "a grid in place of points": stored({"points_to_evaluate": [], "grid": True}),
    "another range": stored({"params": PARAMS | {"training.batch_size": {"integer": [64, 192], "step": 64}}}),
    "a parameter more": stored(
        {"params": PARAMS | {"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}}, "points_to_evaluate": []}
    ),
    "a condition": stored(
        {"params": PARAMS | {"training.batch_size": {"choice": [64, 128], "when": {"temperature.tau_start": 0.02}}}}
        | {"points_to_evaluate": []}
    ),
    "parameters in another order": stored({"params": dict(reversed(PARAMS.items()))}),
    "another sampler": stored(search={"sampler": "tpe"}),
    "another seed of the sampler": stored(search={"seed": 1}),
    "more seeds": stored(search={"seeds": 2}),
    "longer training": stored(training={"epochs": 3}),
    "other weights under the same path": replace(stored(), weights="b"),
    "another ideal point": stored(objectives=[OBJECTIVES[0] | {"ideal": 0.5}, OBJECTIVES[1]]),
}


@pytest.mark.parametrize("what", CHANGED)
def test_different_sweep_with_the_same_name_is_refused_with_the_differences(tmp_path, what):
    with pytest.raises(UserError, match=r"a different sweep named 's' exists .* → .*choose another --name"):
        check_same(stored(), CHANGED[what], tmp_path / "s")


@pytest.mark.parametrize(
    "same",
    [
        stored(),
        stored(search={"candidates": 60}),
        stored(resources={"cpu": 2, "concurrency": 7}),
        stored(storage="s3://b/x"),
    ],
)
def test_number_of_candidates_and_resources_are_not_compared(tmp_path, same):
    check_same(stored(), same, tmp_path / "s")


def test_weights_are_compared_by_content_and_tags_by_name(tmp_path):
    def of(place, weights):
        return replace(stored(model={"name": "RN50", "pretrained": place}), weights=weights)

    check_same(of("here/w.pt", "a"), of("there/w.safetensors", "a"), tmp_path / "s")
    for there, asked in (
        (of("here/w.pt", "a"), of("here/w.pt", "b")),
        (of("here/w.pt", "a"), of("yfcc15m", None)),
        (of("openai", None), of("yfcc15m", None)),
    ):
        with pytest.raises(UserError, match=r"a different sweep named 's' exists \(model\.pretrained"):
            check_same(there, asked, tmp_path / "s")
    event = of("here/w.pt", "a").event
    older = SweepHeader.parse({name: value for name, value in event.items() if name != "weights"})
    check_same(older, of("here/w.pt", "a"), tmp_path / "s")
    with pytest.raises(UserError, match=r"model\.pretrained: .*here.* → .*there"):
        check_same(older, of("there/w.pt", "a"), tmp_path / "s")


def test_order_of_parameters_in_a_grid_is_not_compared(tmp_path):
    grid = {"points_to_evaluate": [], "grid": True}
    check_same(stored(grid), stored(grid | {"params": dict(reversed(PARAMS.items()))}), tmp_path / "s")


def test_added_points_are_refused_unless_allowed(tmp_path):
    check_same(stored(), CHANGED["a point more"], tmp_path / "s", more_points=True)
    with pytest.raises(UserError, match=r"space.points_to_evaluate"):
        check_same(stored(), CHANGED["another point"], tmp_path / "s", more_points=True)


def test_directory_with_the_ledger_of_another_sweep_is_refused(tmp_path):
    with pytest.raises(UserError, match="contains the ledger of another sweep: rename the directory to 's'"):
        check_same(stored(), stored(), tmp_path / "renamed")


def test_number_of_candidates_is_limited_by_the_space():
    assert num_candidates(parse_space({"params": PARAMS}), sweep_config(search={"candidates": 16})) == 6
    assert num_candidates(parse_space({"params": PARAMS}), sweep_config(search={"candidates": 4})) == 4


def test_equal_params_and_seed_count_once_on_the_front(tmp_path):
    stage = Stage(tmp_path / "s")
    stage.finish(stage.orchestrator.next_trial().number)
    events, _ = read_events(tmp_path / "s")
    again = [event | {"trial": 7} | ({"candidate": 7} if "candidate" in event else {}) for event in events[1:]]
    assert len(candidates(replay(events))) == len(candidates(replay([*events, *again]))) == 1


@pytest.mark.parametrize("change", [{"name": "t"}, {"id": "another"}])
def test_remote_ledger_of_a_different_sweep_is_not_restored(tmp_path, change):
    stage = Stage(tmp_path / "s")
    stage.finish(stage.orchestrator.next_trial().number)
    events, _ = read_events(tmp_path / "s")
    with Ledger(tmp_path / "far" / "s") as far:
        far.append(events[0] | change)
        for event in events[1:]:
            far.append(event)
    with pytest.raises(UserError, match=r"holds .*another sweep"):
        newer_ledger(Folder(f"file://{tmp_path}/far/s"), tmp_path / "s")


def test_point_added_to_a_finished_sweep_is_refused(tmp_path, small_features, local_ray):
    space, config = write_yaml(tmp_path, small_features, trials=1, epochs=1)
    results = tmp_path / "results"

    def planned():
        from gaptune.space.parse import load_space

        told = {"name": "s", "results": results, "now": time.time(), "command": "gaptune sweep small.yaml --name s"}
        return prepare(load_space(space), load_sweep_config(config), **told)

    with Display(Console(file=io.StringIO())) as display:
        run(planned(), display=display, results=results, tracking_uri=None, address=None, clock=time.time)
    before = (results / "s" / "ledger.jsonl").read_bytes()
    content = yaml.safe_load(space.read_text())
    content["points_to_evaluate"].append({"temperature.tau_start": 0.07})
    space.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"space.points_to_evaluate\[1\]: null → .*0.07"):
        planned()
    assert (results / "s" / "ledger.jsonl").read_bytes() == before
