"""Trained models on further data: in a training, and by ``gaptune eval``."""

import json
import shutil

import numpy as np
import pytest
import torch
from labelled_files import write_image_folder

from gaptune.cli import cli
from gaptune.config import Evaluation
from gaptune.data import StoreWriter, open_store
from gaptune.data.tasks import TASKS, allowed_tasks
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError
from gaptune.metrics import pair_accuracy, recalls
from gaptune.scores import MEASURES, find_score, measures_of
from gaptune.trial import train
from gaptune.trial.checkpoint import read_checkpoint
from gaptune.trial.loop import trained_model
from gaptune.trial.suite import Suite

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(store, short_module, tmp_path_factory):
    """A training of two epochs with an evaluation after each and one at its end: its reports, and its checkpoints."""
    config = short_module.model_copy(
        update={
            "evaluate": (
                Evaluation(name="each", data=str(store.path), tasks=("zeroshot", "retrieval"), when="epoch"),
                Evaluation(name="last", data=str(store.path), tasks=("zeroshot", "probe", "knn"), when="end"),
            )
        }
    )
    folder = tmp_path_factory.mktemp("trained")
    return list(train(config, store, checkpoints=folder)), folder, config


@pytest.fixture(scope="module")
def short_module():
    from gaptune.config import TrialConfig, with_knobs

    return with_knobs(TrialConfig(), {"training.epochs": 2, "training.batch_size": 32, "device": "cpu"})


@pytest.fixture(scope="module")
def model(trained):
    return trained_model(read_checkpoint(trained[1]), "cpu")[0]


def pair_store(folder, images=6, captions=1):
    rng = np.random.default_rng(0)
    with StoreWriter(folder, 32, 16) as writer:
        for row in range(images):
            texts = [f"a red circle {row} {index}" for index in range(captions)]
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            writer.add("test", pixels, texts, tokenize(texts, 16), id=str(row))
        return writer.finish(name="pairs", source={})


def test_scores_come_after_each_epoch_or_at_the_end(trained):
    (first, second), _, _ = trained
    each = {f"each/{name}" for name in measures_of(("zeroshot", "retrieval"))}
    last = {f"last/{name}" for name in measures_of(("zeroshot", "probe", "knn"))}
    assert {name for name in first.metrics if find_score(name) and name.split("/")[0] in ("each", "last")} == each
    assert {name for name in second.metrics if name.split("/")[0] in ("each", "last")} == each | last


def test_further_scores_are_those_of_the_trials_own_data_on_the_same_images(trained):
    (first, second), _, _ = trained
    for report in (first, second):
        assert report.metrics["each/zeroshot_top1"] == report.metrics["zeroshot/accuracy"]
        for way in ("i2t", "t2i"):
            assert report.metrics[f"each/retrieval_{way}_r5"] == report.metrics[f"retrieval/{way}_r5"]


def test_evaluation_leaves_the_training_as_it_is(trained, store, short_module):
    plain = list(train(short_module, store))
    for with_evaluation, without in zip(trained[0], plain, strict=True):
        same = {name for name in without.metrics if not name.startswith("time/")}
        assert {name: with_evaluation.metrics[name] for name in same} == {name: without.metrics[name] for name in same}


def test_a_training_goes_on_with_the_same_evaluations_only(trained, store, short_module, tmp_path):
    _, folder, config = trained
    again = shutil.copytree(folder, tmp_path / "again")
    (again / "epoch-0002.pt").unlink()
    repeated, rest = list(train(config, store, checkpoints=again))
    assert repeated.metrics == trained[0][0].metrics
    assert rest.metrics["last/knn_top1"] == trained[0][1].metrics["last/knn_top1"]
    with pytest.raises(UserError, match="another configuration"):
        next(train(short_module, store, checkpoints=again))


def test_a_checkpoint_is_enough_to_have_the_model_back(trained, store, model):
    values = Suite(store, ("zeroshot", "probe", "knn"), CPU)(model)
    last = trained[0][1].metrics
    assert {f"last/{name}": float(each.mean()) for name, each in values.items()} == {
        name: value for name, value in last.items() if name.startswith("last/")
    }


def test_every_measure_comes_from_its_task(store, model, tmp_path):
    pairs = pair_store(tmp_path / "pairs")
    for task in TASKS:
        values = Suite(pairs if task == "pairs" else store, (task,), CPU)(model)
        assert set(values) == set(measures_of((task,)))
        assert all(each.ndim == 1 and len(each) for each in values.values())
    assert {name for task in TASKS for name in measures_of((task,))} == set(MEASURES)


@torch.no_grad()
def test_pairs_and_retrieval_of_a_store_are_those_of_its_features(model, tmp_path):
    store = pair_store(tmp_path / "pairs")
    split = store.split("test")
    model.eval()
    x = model.image_features(model.pixels(torch.from_numpy(split.gather(np.arange(6)))))
    y = model.text_features(torch.from_numpy(split.tokens.astype(np.int64)))
    values = Suite(store, ("pairs", "retrieval"), CPU)(model)
    assert values["pairs_accuracy"].tolist() == pair_accuracy(x, y).tolist()
    assert float(values["retrieval_i2t_r1"].mean()) == recalls(x, y, torch.arange(6))["retrieval/i2t_r1"]


def test_a_store_allows_what_it_has(store, tmp_path):
    assert allowed_tasks(store) == ("zeroshot", "probe", "knn", "retrieval")
    assert allowed_tasks(pair_store(tmp_path / "pairs")) == ("retrieval",)
    labelled = open_store(f"imagefolder:{write_image_folder(tmp_path / 'both')}", image_size=32, context_length=16)
    assert allowed_tasks(labelled) == ("zeroshot", "probe", "knn")  # its captions are its labels
    folder = write_image_folder(tmp_path / "test", splits=("test",))
    assert allowed_tasks(open_store(f"imagefolder:{folder}", image_size=32, context_length=16)) == ("zeroshot",)


@pytest.mark.parametrize(
    ("images", "captions", "task", "message"),
    [(6, 1, "probe", "no classes"), (5, 1, "pairs", "not pairs"), (4, 2, "pairs", "not pairs")],
)
def test_a_task_that_the_data_do_not_allow_is_refused(images, captions, task, message, tmp_path):
    with pytest.raises(UserError, match=message):
        Suite(pair_store(tmp_path / "data", images, captions), (task,), CPU)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [None] * 4])
def test_a_split_of_pairs_is_evaluated_by_pairs_with_labels_or_without(model, tmp_path, labels):
    with StoreWriter(tmp_path / "pairs", 32, 16) as writer:
        for row, label in enumerate(labels):
            pixels = np.full((32, 32, 3), 60 * row, dtype=np.uint8)
            writer.add("pairs", pixels, ["a red circle"], tokenize(["a red circle"], 16), id=str(row), label=label)
        store = writer.finish(name="pairs", source={})
    assert len(Suite(store, ("pairs",), CPU)(model)["pairs_accuracy"]) == 2


@pytest.mark.parametrize(
    ("labels", "tasks"),
    [
        ([0] * 8, {"probe": "a single class", "knn": "a single class"}),
        ([0, 1], {"probe": "of one class without the fifth"}),
        ([0] * 4 + [1] * 4, {}),
    ],
)
def test_labels_to_learn_from_are_of_two_classes_also_without_the_fifth_that_is_held_out(
    model, tmp_path, labels, tasks
):
    with StoreWriter(tmp_path / "few", 32, 16) as writer:
        for split in ("train", "test"):
            for row, label in enumerate(labels if split == "train" else [0, 1]):
                pixels = np.full((32, 32, 3), 20 * row, dtype=np.uint8)
                writer.add(split, pixels, ["a circle"], tokenize(["a circle"], 16), id=f"{split}{row}", label=label)
        names = ["circle", "square"]
        store = writer.finish(
            name="few",
            source={},
            classes=names,
            prompts=("a {}",),
            prompt_tokens=tokenize([f"a {n}" for n in names], 16),
        )
    for task in ("zeroshot", "probe", "knn"):
        if task in tasks:
            with pytest.raises(UserError, match=tasks[task]):
                Suite(store, (task,), CPU)
        else:
            Suite(store, (task,), CPU)(model)


def test_a_training_on_data_that_do_not_allow_a_task_does_not_start(store, short_module, tmp_path):
    pairs = Evaluation(name="p", data=str(pair_store(tmp_path / "pairs").path), tasks=("knn",))
    with pytest.raises(UserError, match="cannot be evaluated by knn"):
        next(train(short_module.model_copy(update={"evaluate": (pairs,)}), store))


# --- gaptune eval ---


def evaluated(*words):
    from click.testing import CliRunner

    return CliRunner().invoke(cli, ["eval", *map(str, words)])


def test_eval_prints_each_score_with_its_interval(trained, store):
    result = evaluated(trained[1], "--data", store.path, "--json")
    scores = json.loads(result.stdout)["scores"]
    assert set(scores) == set(MEASURES) - {"pairs_accuracy"}
    assert scores["zeroshot_top1"]["score"] == trained[0][1].metrics["zeroshot/accuracy"]
    assert scores["zeroshot_top1"]["n"] == 20
    assert all(row["low"] <= row["score"] <= row["high"] for row in scores.values())
    table = evaluated(trained[1] / "epoch-0002.pt", "--data", store.path, "--tasks", "knn").stdout
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["knn_top1"]


def test_eval_takes_data_of_another_size_and_says_which_classes_the_model_cannot_know(trained, tmp_path, caplog):
    folder = write_image_folder(tmp_path / "animals", each=6)
    result = evaluated(trained[1], "--data", f"imagefolder:{folder}")
    assert result.exit_code == 0
    assert "knn_top1" in result.stdout
    assert "2 of 2 classes have words that the model's vocabulary lacks (dog, red fox)" in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "scenes", "--tasks", "knm"), "did you mean 'knn'"),
        (("--data", "scenes", "--tasks", "pairs"), "not pairs"),
        (("--data", "nothing-here"), "no such store"),
    ],
)
def test_eval_refuses_bad_input(trained, words, message):
    assert message in str(evaluated(trained[1], *words).exception)


def test_eval_refuses_what_is_no_checkpoint(tmp_path):
    file = tmp_path / "epoch-0001.pt"
    file.write_bytes(b"nothing of the kind")
    for place, message in (
        (file, "no whole checkpoint"),
        (tmp_path, "holds no whole"),
        (tmp_path / "a", "no checkpoint"),
    ):
        fault = evaluated(place, "--data", "scenes").exception
        assert isinstance(fault, UserError)
        assert message in str(fault)
