"""gaptune from Python: what the docs show works, and `import gaptune` stays light."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest
from support import SMALL, write_yaml

import gaptune
from gaptune.data.scenes import make_scenes
from gaptune.errors import UserError
from gaptune.ledger import State, load
from gaptune.results import summarize
from gaptune.storage.bundled import example

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("api") / "small", SMALL).path


def test_examples_of_the_api_page_give_their_output():
    failed, tried = doctest.testfile(
        str(ROOT / "docs/reference/api.md"), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert failed == 0
    assert tried > 10


@pytest.mark.whole
def test_importing_gaptune_imports_nothing_heavy():
    heavy = "numpy", "pandas", "torch", "ray", "optuna", "mlflow", "pydantic"
    code = f"import gaptune, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.whole
def test_reading_a_sweep_needs_neither_torch_nor_ray_nor_mlflow():
    code = (
        "import gaptune, sys; s = gaptune.load_sweep('example'); s.front(), s.frame(), s.best();"
        "print([name for name in ('torch', 'ray', 'mlflow', 'optuna') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.whole
def test_heads_are_trained_without_open_clip(small_features):
    """Its import takes seconds in every worker, and imports torch's compiler, too."""
    code = (
        "import sys; from gaptune.config import TrialConfig; from gaptune.data.open import open_store\n"
        "from gaptune.trial import train\n"
        "config = TrialConfig.model_validate({'model': {'name': 'heads'}, 'training': {'epochs': 1}})\n"
        f"list(train(config, open_store({str(small_features)!r})))\n"
        "print([name for name in ('open_clip', 'torchvision', 'ray', 'mlflow') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_only_what_is_public_is_there():
    assert set(gaptune.__all__) <= set(dir(gaptune))
    with pytest.raises(AttributeError, match="no attribute 'lod_sweep'"):
        gaptune.lod_sweep  # noqa: B018


def test_example_sweep_is_small_and_complete():
    record = load(example())
    assert record.done
    assert len(record.trials) == 16
    sizes = {file.name: file.stat().st_size for file in example().rglob("*") if file.is_file()}
    assert set(sizes) == {"ledger.jsonl", "sample.npz"}  # the samples are those of its front, for the report
    assert sizes["ledger.jsonl"] < 200_000 > 10 * sizes["sample.npz"]


@pytest.mark.parametrize(("name", "seeds"), [("example-paper", 3), ("example-paper-features", 5)])
def test_example_of_the_paper_has_all_outcomes_and_no_feature(name, seeds):
    folder = example(name)
    record = load(folder)
    assert record.done
    assert len(record.trials) == seeds * len({trial.candidate for trial in record.trials.values()}) == seeds * 21
    assert {trial.state for trial in record.trials.values()} == {State.COMPLETE}
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert sizes.keys() == {"ledger.jsonl", *(f"trials/{number:04d}/outcomes.npz" for number in record.trials)}
    assert sum(sizes.values()) < 2_000_000


def test_default_sweep_is_the_newest_or_else_the_example(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_RESULTS", str(tmp_path))
    assert gaptune.load_sweep().folder == example()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "ledger.jsonl").write_bytes((example() / "ledger.jsonl").read_bytes())
    assert gaptune.load_sweep().folder == tmp_path / "mine"
    with pytest.raises(UserError, match=r"no sweep 'mien' in .* \(did you mean 'mine'\?\)"):
        gaptune.load_sweep("mien")


def test_front_and_best_are_those_of_the_summary():
    sweep = gaptune.load_sweep("example")
    members = summarize(sweep.record).front
    front = sweep.front()
    assert front.index.tolist() == [member.trial.number for member in members]
    assert front["retrieval/mean_r1"].tolist() == [member.values[0] for member in members]
    assert set(front.index) <= set(sweep.candidates().index)
    assert sweep.best().name in front.index
    assert sweep.best("uniformity/wang_isola")["uniformity/wang_isola"] == front["uniformity/wang_isola"].min()
    with pytest.raises(UserError, match="did you mean 'geometry/gap'"):
        sweep.best("geometry/gpa")
    nobody = sweep.view(constraints=["retrieval/mean_r1>=0.9"])
    assert nobody.front().empty
    assert "method" in nobody.front()
    with pytest.raises(UserError, match="rules out 16; nearest is trial 12"):
        nobody.best()


def test_sweep_is_shown_in_one_line_with_its_name():
    sweep = gaptune.load_sweep("example-paper")
    assert sweep.name == "example-paper"
    assert repr(sweep).startswith("<Sweep 'example-paper': trials ")
    assert len(repr(sweep)) < 300
    with pytest.raises(UserError, match="got only retrieval/mean_r1"):
        sweep.view("retrieval/mean_r1")
    assert sweep.view(constraints="geometry/gap<=0.4").record.constraints


@pytest.mark.parametrize("name", ["..", "a/b", "", "example"])
def test_a_name_that_no_sweep_can_have_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="no sweep can be called"):
        gaptune.run_sweep("temp", name=name, results=tmp_path)


@pytest.mark.whole
def test_a_trial_is_trained_as_its_reports_are_asked_for(store, tmp_path):
    params = {"method": "FLT", "training.epochs": 2, "training.batch_size": 64, "data.store": str(store)}
    reports = gaptune.train(params, checkpoints=tmp_path / "c")
    assert next(reports).epoch == 1
    assert [report.epoch for report in gaptune.train(params, checkpoints=str(tmp_path / "c"))] == [1, 2]
    with pytest.raises(UserError, match=r"did you mean 'training\.epochs'"):
        gaptune.train({"training.epoch": 2})
    with pytest.warns(UserWarning, match="the text tower has random weights and is never trained"):
        gaptune.train(params | {"model.freeze": "text"})


@pytest.mark.whole
def test_sweep_is_run_and_read_back(store, tmp_path, local_ray):
    space, sweep = write_yaml(tmp_path, store, epochs=1, trials=2)
    done = gaptune.run_sweep(space, sweep, name="mine", results=tmp_path / "r")
    assert len(done.candidates()) == 2
    assert not done.front().empty
    assert gaptune.load_sweep("mine", tmp_path / "r").front().equals(done.front())
