"""What is known before a sweep starts: refused in one line, or warned of, by ``prepare`` and so by a dry run."""

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from labeled_files import write_image_folder
from support import write_yaml

from gaptune.config import DataConfig, ModelConfig, TrialConfig, load_sweep_config
from gaptune.config.models import PRESETS
from gaptune.data import FeatureMeta, StoreWriter
from gaptune.data.open import open_store
from gaptune.data.tokens import tokenize
from gaptune.engine import machine
from gaptune.engine.plan import prepare
from gaptune.engine.preflight import check_trial
from gaptune.errors import UserError
from gaptune.space.parse import parse_space
from gaptune.trial.build_model import make_model
from gaptune.trial.pretrained import weights_hash

TAU = {"temperature.schedule": "constant", "temperature.tau_start": {"log_uniform": [0.02, 0.3]}}


def make_store(folder, splits, *, context=16, classes=(), features=0, side=32, source=None):
    """A store of noise; each split has a number of images, or the labels of its images."""
    random = np.random.default_rng(0)
    sizes = {"features": FeatureMeta(features, features)} if features else {}
    with StoreWriter(folder, *(() if features else (side, context)), **sizes) as writer:
        for split, content in splits.items():
            labels = content if isinstance(content, list) else [None] * content
            for row, label in enumerate(labels):
                texts = [f"a red circle {row}"]
                tokens = tokenize(texts, context)
                pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
                if features:
                    pixels = random.random(features, dtype=np.float32).astype(np.float16)
                    tokens = random.random((1, features), dtype=np.float32).astype(np.float16)
                writer.add(split, pixels, texts, tokens, id=f"{split}-{row}", label=label)
        prompts = ("a photo of a {}",) if classes else ()
        more = {"prompt_tokens": tokenize([prompts[0].format(name) for name in classes], context)} if classes else {}
        more |= {"source": source or {}, "classes": list(classes), "prompts": prompts}
        return str(writer.finish(name=folder.name, **more).path)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_DEVICES", Path("/nowhere"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture(scope="module")
def places(tmp_path_factory, small_store):
    """Stores and files by name, for sentences such as ``data: {store: FEATURES}``."""
    base = tmp_path_factory.mktemp("places")
    own = {"train": 64, "val": 16}
    torch.save({"a": torch.zeros(2)}, base / "other.pt")
    (base / "notes.txt").write_text("no weights")
    (base / "empty").mkdir()
    return {
        "SMALL": str(small_store),
        "FEATURES": make_store(base / "features", own, features=8),
        "NORMALIZED": make_store(base / "normalized", own, features=8, source={"normalize": True}),
        "WIDER": make_store(base / "wider", own, features=9),
        "UNPROMPTED": make_store(
            base / "unprompted",
            {**own, "probe_train": [0, 1] * 4, "probe_test": [0, 1]},
            classes=("cat", "dog"),
            features=8,
        ),
        "LONG": make_store(base / "long", own, context=77),
        "LONGER": make_store(base / "longer", own, context=90),
        "NOVAL": make_store(base / "noval", {"train": 8}),
        "ONEVAL": make_store(base / "oneval", {"train": 64, "val": 1}),
        "FEW": make_store(base / "few", {"train": 64, "val": 9}),
        "PLAIN": make_store(base / "plain", {**own, "test": 5}),
        "ONE": make_store(base / "one", {**own, "probe_train": [0] * 6, "probe_test": [0, 1]}, classes=("cat", "dog")),
        "TWO": make_store(base / "two", {"train": [0, 1], "test": [0, 1]}, classes=("cat", "dog")),
        "SINGLE": make_store(base / "single", {"train": [0, 0], "test": [0, 0]}, classes=("cat",)),
        "NOTRAIN": make_store(base / "notrain", {"test": [0, 1]}, classes=("cat", "dog")),
        "FOLDER": str(write_image_folder(base / "folder", splits=("test",))),
        "WEIGHTS": str(base / "other.pt"),
        "NOTES": str(base / "notes.txt"),
        "EMPTY": str(base / "empty"),
    }


def plan(base, places, sweep="", params=None, **space):
    """What ``prepare`` makes of a small sweep with further YAML, and a space."""
    data = "" if sweep.startswith("data:") else "data: {store: SMALL}\n"
    objectives = (
        "objectives:\n  - {metric: retrieval/mean_r10, reference: 0.0, ideal: 1.0}\n"
        "  - {metric: geometry/gap, reference: 2.0, ideal: 0.0}\n"
    )
    text = data + ("" if "objectives:" in sweep else objectives) + sweep
    if "training:" not in sweep:
        text += "training: {epochs: 2, batch_size: 16}\n"
    for name in sorted(places, key=len, reverse=True):
        text = text.replace(name, places[name])
    file = base / "sweep.yaml"
    file.write_text(text)
    content = {"name": "space", "params": {**TAU, **(params or {})}, **space}
    return prepare(parse_space(content), load_sweep_config(file), name="n", results=base / "r", now=0.0, command="")


def evaluate(place, *tasks):
    return f"evaluate: [{{name: more, data: '{place}', tasks: [{', '.join(tasks)}]}}]\n"


GRID = {"temperature.tau_start": {"choice": [0.02, 0.04, 0.08, 0.16]}, "optimizer.lr": {"choice": [1e-3, 2e-3]}}
OBJECTIVES = "objectives: [{metric: geometry/gap, reference: 2, ideal: 0}, {metric: METRIC, reference: 0, ideal: 1}]\n"

REFUSED = {
    "no GPU": ("device: cuda\n", {}, r"device: cuda needs a GPU for each trial, .* none \(this machine has no GPU\)"),
    "batch norm in parts on several ranks": (
        "resources: {workers: 2}\ntraining: {epochs: 2, batch_size: 16, micro_batch: 8}\n",
        {},
        "training.micro_batch: scenes-tiny has batch norm",
    ),
    "heads on images": ("model: {name: heads}\n", {}, "trains on features"),
    "a head's parameter without heads": (
        "model: {name: RN50}\n",
        {"model.dropout": {"uniform": [0.0, 0.5]}},
        r"model\.dropout is a parameter of the model heads; this sweep trains RN50",
    ),
    "features of other widths": (
        "data: {store: FEATURES}\nmodel: {name: heads}\n" + evaluate("WIDER", "retrieval"),
        {},
        "the model takes features of 8 numbers per image .*, and it has features of 9 numbers",
    ),
    "images for heads": (
        "data: {store: FEATURES}\nmodel: {name: heads}\n" + evaluate("SMALL", "retrieval"),
        {},
        "the model takes features .*, and it has images",
    ),
    "zero-shot without prompts": (
        "data: {store: UNPROMPTED}\nmodel: {name: heads}\n" + OBJECTIVES.replace("METRIC", "zeroshot/top1"),
        {},
        "zeroshot/top1 cannot be measured: .* has no features of class prompts",
    ),
    "a CLIP on features": ("data: {store: FEATURES}\n", {}, "is a store of features"),
    "an open_clip model on features": ("data: {store: FEATURES}\nmodel: {name: RN50}\n", {}, "is a store of features"),
    "no val": ("data: {store: NOVAL}\n", {}, "it has no val images"),
    "a single val image": ("data: {store: ONEVAL}\n", {}, "a single val image"),
    "a probe of one class": ("data: {store: ONE}\n", {}, "cannot be probed: probe_train has .*a single class"),
    "a batch above the data": ("training: {batch_size: 500}\n", {}, "batch_size 500 is more than the 192"),
    "a batch that the space draws": (
        "",
        {"training.batch_size": {"integer": [64, 256], "step": 64}},
        "batch_size 256 is more than the 192",
    ),
    "images that a preset cannot take": ("model: {image_size: 17}\n", {}, "scenes-tiny cannot .* images of 17 pixels"),
    "images that RN50 cannot take": ("model: {name: RN50, image_size: 17}\n", {}, "RN50 cannot .* images of 17 pixels"),
    "captions that are too long": ("data: {store: LONGER}\nmodel: {name: RN50}\n", {}, "RN50 reads 77 tokens"),
    "another tokenizer": ("model: {name: roberta-ViT-B-32}\n", {}, "another tokenizer"),
    "no such weights": ("model: {pretrained: no/such.pt}\n", {}, "no file no/such.pt"),
    "weights of something else": ("model: {pretrained: WEIGHTS}\n", {}, "do not fit scenes-tiny"),
    "weights that are a text": ("model: {pretrained: NOTES}\n", {}, "is no checkpoint that open_clip can read"),
    "weights in an empty folder": ("model: {pretrained: EMPTY}\n", {}, "holds no whole checkpoint"),
    "no classes": (evaluate("PLAIN", "probe"), {}, r"more .* by probe: it has no classes"),
    "a single class": (evaluate("SINGLE", "knn"), {}, "it has a single class, 'cat'"),
    "a single class among those to learn from": (
        evaluate("ONE", "knn"),
        {},
        "it has labeled images of a single class to learn from",
    ),
    "no class left without the fifth": (evaluate("TWO", "probe"), {}, "only 2 labeled images to learn from"),
    "nothing to learn from": (evaluate("NOTRAIN", "knn"), {}, "no labeled images in probe_train, train"),
    "nothing to learn from, not built yet": (
        evaluate("imagefolder:FOLDER", "zeroshot", "probe"),
        {},
        "more .* by probe: it has no labeled images in probe_train, train",
    ),
    "no pairs": (evaluate("PLAIN", "mmvp"), {}, "5 images with 5 captions, not pairs"),
    "features for a model of images": (evaluate("FEATURES", "retrieval"), {}, "takes images, and it has features of 8"),
    "a metric of labels without labels": (
        "data: {store: PLAIN}\n" + OBJECTIVES.replace("METRIC", "probe/top1"),
        {},
        "probe/top1 cannot be measured: .* has no probe_train and probe_test",
    ),
    "a constraint on it": (
        "data: {store: PLAIN}\nconstraints: [{metric: zeroshot/top1, min: 0.1}]\n",
        {},
        "zeroshot/top1 cannot be measured",
    ),
    "more trainings than a sweep has": ("search: {candidates: 20000, seeds: 100}\n", {}, "2,000,000 trainings"),
    "a place that is too long": (f"data: {{store: 'csv:{'x' * 300}'}}\n", {}, "too long for a path or URL"),
    "a file in place of a folder": (evaluate("imagefolder:NOTES", "zeroshot"), {}, "cannot be read: Not a directory"),
    "a user nobody knows": (evaluate("imagefolder:~nobody-knows", "zeroshot"), {}, "there is no folder"),
    "a URL without a place": ("data: {store: 's3://'}\n", {}, "cannot read s3://"),
    "a storage that cannot be written": ("storage: /proc/none\n", {}, "cannot write to /proc/none"),
    "seeds past their end": ("seed: 2147483647\nsearch: {seeds: 2}\n", {}, "the last of 2 seeds is 2147483648"),
    "no possible draw": (
        "temperature: {tau_min: 0.2, tau_init: 0.3}\n",
        {"temperature.schedule": "learned", "temperature.tau_init": {"uniform": [0.01, 0.1]}},
        "no trial of this space is possible in this sweep: temperature: tau_init",
    ),
}


@pytest.mark.parametrize(("sweep", "params", "gist"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_and_nothing_is_written(tmp_path, places, sweep, params, gist):
    with pytest.raises(UserError, match=gist) as caught:
        plan(tmp_path, places, sweep, params)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "r").exists()


def test_training_with_too_many_steps_is_refused(tmp_path, places, monkeypatch):
    monkeypatch.setattr("gaptune.engine.preflight._MOST_STEPS", 100)
    assert plan(tmp_path, places, "training: {epochs: 33, batch_size: 64}\n")
    with pytest.raises(UserError, match="a training of 102 steps"):
        plan(tmp_path, places, "training: {epochs: 34, batch_size: 64}\n")


@pytest.mark.parametrize(
    ("sweep", "params"),
    [
        ("", {}),
        ("training: {epochs: 2, batch_size: 500}\n", {"training.batch_size": {"choice": [16, 32]}}),
        (evaluate("SMALL", "zeroshot", "probe", "knn", "retrieval"), {}),
        (evaluate("imagefolder:FOLDER", "zeroshot"), {}),
        ("data: {store: FEATURES}\nmodel: {name: heads}\n" + evaluate("FEATURES", "retrieval"), {}),
        (
            "data: {store: FEATURES}\nmodel: {name: heads}\n",
            {"model.head": {"choice": ["linear", "mlp"]}, "model.width": {"integer": [8, 64]}},
        ),
        ("", {"training.evaluate_every": {"choice": [1, 2]}}),
        ("model: {name: RN50, freeze: image}\n", {}),
        ("data: {store: PLAIN}\n", {}),
    ],
)
def test_what_works_is_not_refused(tmp_path, places, sweep, params):
    assert plan(tmp_path, places, sweep, params).num_candidates == 16


def test_a_cluster_decides_about_its_own_devices(small_store):
    config = TrialConfig(data=DataConfig(store=str(small_store)), device="cuda")
    check_trial(config, here=False)
    with pytest.raises(UserError, match="torch cannot use a GPU here"):
        check_trial(config)


WARNED = {
    "few validation images": (
        "data: {store: FEW}\n",
        {},
        {},
        r"only 9 validation images: recall@10 is 1 whatever the model does, and one image counts 0\.11",
    ),
    "fewer than a hundred": ("", {}, {}, r"only 64 validation images: recall@10 is 0\.16 by chance"),
    "evaluation data that were prepared in another way": (
        "data: {store: FEATURES}\nmodel: {name: heads}\n" + evaluate("NORMALIZED", "retrieval"),
        {},
        {},
        "made with --normalize, the training features with neither --normalize nor --center; use --treated-as",
    ),
    "a parameter without a switch": (
        "",
        {"swap.probability": {"uniform": [0.0, 0.5]}},
        {},
        "swap.probability varies but has no effect",
    ),
    "fewer combinations than trials": ("", GRID, {}, "the space has 8 combinations, fewer than the 16 candidates"),
    "a grid and another number of trials": (
        "search: {candidates: 3}\n",
        GRID,
        {"grid": True},
        "the grid has 8 combinations and all are tried: search.candidates 3 does not apply",
    ),
    "more points than trials": (
        "search: {candidates: 1}\n",
        {},
        {"points_to_evaluate": [{"temperature.tau_start": 0.03}, {"temperature.tau_start": 0.04}]},
        "the space has 2 points_to_evaluate; only the first 1",
    ),
    "nothing to stop": (
        "training: {epochs: 1, batch_size: 16}\nearly_stopping: {method: asha}\n",
        {},
        {},
        "early stopping has nothing to stop",
    ),
    "nothing to stop before the only report": (
        "training: {epochs: 9, batch_size: 16, evaluate_every: 9}\nearly_stopping: {method: asha}\n",
        {},
        {},
        "a training of 9 epochs, with a report after every 9 epochs, has no rung before its end",
    ),
    "a batch that leaves out much": (
        "data: {store: FEW}\ntraining: {epochs: 2, batch_size: 33}\n",
        {},
        {},
        r"each epoch leaves out 31 of 64 images \(the last partial batch\); training.batch_size=32 leaves out 0$",
    ),
    "one of the batches leaves out much": (
        "data: {store: FEW}\n",
        {"training.batch_size": {"choice": [16, 23]}},
        {},
        r"each epoch leaves out 18 of 64 images .*; training.batch_size=21 leaves out 1$",
    ),
    "a batch that takes more of a store than it has": (
        "data: {mix: {FEW: 1, TWO: 1}}\n",
        {},
        {},
        r"a batch of 16 takes 8\.0 images of .*two, which has 2: the same image comes several times in a batch",
    ),
    "some draws impossible": (
        "temperature: {tau_min: 0.05}\n",
        {"temperature.schedule": "learned", "temperature.tau_init": {"uniform": [0.01, 0.1]}},
        {},
        r"\d+ of 50 random draws are impossible \(temperature: tau_init",
    ),
}


@pytest.mark.parametrize(("sweep", "params", "space", "gist"), WARNED.values(), ids=WARNED)
def test_sweep_that_works_but_not_as_intended_has_a_warning(tmp_path, places, sweep, params, space, gist):
    warnings = plan(tmp_path, places, sweep, params, **space).warnings
    assert any(re.search(gist, warning) for warning in warnings), warnings
    assert not any("\n" in warning for warning in warnings)


def test_sweep_that_works_as_intended_has_no_warning(tmp_path, places):
    found = plan(tmp_path, {**places, "SMALL": "scenes"}, "search: {candidates: 8}\n", GRID, grid=True)
    assert found.warnings == ()
    assert found.num_candidates == 8


def test_little_disk_space_is_a_warning(tmp_path, places, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 5_000_000})())
    assert any("5.0 MB are free" in warning for warning in plan(tmp_path, places).warnings)


# --- models ---


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("vocabulary", ["auto", "full"])
def test_the_weights_of_a_preset_are_counted_without_building_it(small_store, name, vocabulary):
    model, store = ModelConfig(name=name, vocabulary=vocabulary), open_store(small_store)
    _, sizes = check_trial(TrialConfig(model=model, data=DataConfig(store=str(small_store))))
    clip = make_model(model, store.meta)
    assert sizes.weights == sum(parameter.numel() for parameter in clip.parameters())
    assert (sizes.image_size, sizes.context_length) == (clip.image_size, clip.context_length)


def test_weights_are_checked_and_known_by_their_content(tmp_path, small_store):
    from safetensors.torch import save_file

    store = open_store(small_store)
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        states.append(make_model(ModelConfig(), store.meta).tower.state_dict())
    torch.save(states[0], tmp_path / "one.pt")
    torch.save({"state_dict": states[0]}, tmp_path / "again.pt")
    torch.save(states[1], tmp_path / "other.pt")
    save_file({name: tensor.contiguous() for name, tensor in states[0].items()}, tmp_path / "one.safetensors")
    models = {file.name: ModelConfig(pretrained=str(file)) for file in tmp_path.iterdir()}
    for model in models.values():
        check_trial(TrialConfig(model=model, data=DataConfig(store=str(small_store))))
    hashes = {name: weights_hash(model) for name, model in models.items()}
    assert hashes["one.pt"] == hashes["again.pt"] == hashes["one.safetensors"] != hashes["other.pt"]
    assert weights_hash(ModelConfig()) is None
    assert weights_hash(ModelConfig(name="RN50", pretrained="openai")) is None

    whole = io.BytesIO()  # a checkpoint with a good seal, and something else inside
    torch.save({"model": 3}, whole)
    (tmp_path / "epoch-0001.pt").write_bytes(whole.getvalue() + hashlib.sha256(whole.getvalue()).digest())
    with pytest.raises(UserError, match="is no whole checkpoint"):
        weights_hash(ModelConfig(pretrained=str(tmp_path / "epoch-0001.pt")))

    cut = tmp_path / "one.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(UserError, match="is no checkpoint that open_clip can read"):
        check_trial(TrialConfig(model=models[cut.name], data=DataConfig(store=str(small_store))))


# --- the command line ---


def test_a_dry_run_says_how_much_there_is_to_do_and_warns(gaptune, tmp_path, small_store):
    space, sweep = write_yaml(tmp_path, small_store, epochs=3, trials=4, more="resources: {concurrency: 1}\n")
    sweep.write_text(sweep.read_text().replace("candidates: 4", "candidates: 4, seeds: 2"))
    code, out, err = gaptune("sweep", space, "--config", sweep, "--dry-run", "--results", tmp_path / "r")
    assert (code, err) == (0, "")
    assert "4 candidates x 2 seeds = 8 trials" in out
    assert "3 epochs of 3 steps of 64 pairs" in out
    assert "192 train, 64 val, 60 probe_train, 40 probe_test images" in out
    assert "checkpoints of up to 19.5 MB for each running trial\n" in out
    assert "warning    only 64 validation images" in out
    assert "log_uniform: [0.02, 0.3]" in out
    assert "'" not in out.replace("sweep's", "")


def test_trials_on_the_command_line_are_refused_where_they_cannot_count(gaptune, tmp_path, small_store):
    space, sweep = write_yaml(tmp_path, small_store)
    space.write_text("params: {seed: {choice: [0, 1]}, optimizer.lr: {choice: [1e-3, 2e-3]}}\ngrid: true\n")
    asked = ("sweep", space, "--config", sweep, "--dry-run", "--candidates")
    code, out, err = gaptune(*asked, 3)
    assert (code, out) == (2, "")
    assert err == "gaptune: the grid has 4 combinations and all are tried; --candidates 3 does not apply\n"
    assert gaptune(*asked, 4)[0] == 0
    code, _, err = gaptune(*asked, 10**12)
    assert code == 2
    assert "a sweep has at most 1,000,000" in err


def test_train_is_refused_before_it_trains(gaptune, tmp_path, small_store):
    _, sweep = write_yaml(tmp_path, small_store)
    code, out, err = gaptune("train", "--config", sweep, "--out", "/proc/none")
    assert (code, out) == (2, "")
    assert err.startswith("gaptune: --out: cannot write to /proc/none: ")
    code, out, err = gaptune("train", "--config", sweep, "--set", "model.image_size=17")
    assert (code, out) == (2, "")
    assert "images of 17 pixels" in err


@pytest.mark.parametrize(
    "value", ["[", "1e400", "!!python/object:os.system {}", "[" * 1000, "&a [*a]", "\t", "9" * 500]
)
def test_a_value_on_the_command_line_is_read_within_the_same_limits(gaptune, value):
    code, _, err = gaptune("train", "--set", f"optimizer.lr={value}")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "--set" in err
