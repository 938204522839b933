"""Trained models on further data: in a training, and by ``gaptune eval``."""

import json
import shutil

import numpy as np
import pytest
import torch
from built_stores import built, captioned_store, labeled_store, mmvp, plain_pairs
from labeled_files import write_image_folder

from gaptune.cli import cli
from gaptune.config import EvaluationConfig
from gaptune.data.open import open_store
from gaptune.data.tasks import TASKS, allowed_tasks
from gaptune.errors import UserError
from gaptune.metrics.mmvp import pair_accuracy
from gaptune.metrics.retrieval import recalls
from gaptune.metrics.table import TASK_METRICS, find_metric, metrics_of
from gaptune.trial import train
from gaptune.trial.checkpoint import read_checkpoint
from gaptune.trial.evaluate import TaskEvaluator, Where
from gaptune.trial.loop import trained_model

pytestmark = pytest.mark.whole

CPU = Where(torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(store, short_module, tmp_path_factory):
    """A training of two epochs with an evaluation after each and one at its end: its reports, and its checkpoints."""
    config = short_module.model_copy(
        update={
            "evaluate": (
                EvaluationConfig(name="each", data=str(store.path), tasks=("zeroshot", "retrieval"), when="epoch"),
                EvaluationConfig(name="last", data=str(store.path), tasks=("zeroshot", "probe", "knn"), when="end"),
            )
        }
    )
    folder = tmp_path_factory.mktemp("trained")
    return list(train(config, store, checkpoints=folder)), folder, config


@pytest.fixture(scope="module")
def short_module():
    from gaptune.config import TrialConfig, with_params

    return with_params(TrialConfig(), {"training.epochs": 2, "training.batch_size": 32, "device": "cpu"})


@pytest.fixture(scope="module")
def model(trained):
    return trained_model(read_checkpoint(trained[1]), "cpu")[0]


def test_metrics_come_after_each_epoch_or_at_the_end(trained):
    (first, second), _, _ = trained
    each = {f"each/{name}" for name in metrics_of(("zeroshot", "retrieval"))}
    last = {f"last/{name}" for name in metrics_of(("zeroshot", "probe", "knn"))}
    assert {name for name in first.metrics if find_metric(name) and name.split("/")[0] in ("each", "last")} == each
    assert {name for name in second.metrics if name.split("/")[0] in ("each", "last")} == each | last


def test_further_metrics_are_those_of_the_trials_own_data_on_the_same_images(trained):
    (first, second), _, _ = trained
    for report in (first, second):
        assert report.metrics["each/zeroshot/top1"] == report.metrics["zeroshot/top1"]
        for way in ("i2t", "t2i"):
            assert report.metrics[f"each/retrieval/{way}_r5"] == report.metrics[f"retrieval/{way}_r5"]


def test_evaluation_leaves_the_training_as_it_is(trained, store, short_module):
    plain = list(train(short_module, store))
    for with_evaluation, without in zip(trained[0], plain, strict=True):
        same = {name for name in without.metrics if not name.startswith("time/")}
        assert {name: with_evaluation.metrics[name] for name in same} == {name: without.metrics[name] for name in same}


def test_training_resumes_with_the_same_evaluations_only(trained, store, short_module, tmp_path):
    _, folder, config = trained
    again = shutil.copytree(folder, tmp_path / "again")
    (again / "epoch-0002.pt").unlink()
    repeated, rest = list(train(config, store, checkpoints=again))
    assert repeated.metrics == trained[0][0].metrics
    assert rest.metrics["last/knn/top1"] == trained[0][1].metrics["last/knn/top1"]
    with pytest.raises(UserError, match="another configuration"):
        next(train(short_module, store, checkpoints=again))


def test_model_is_restored_from_its_checkpoint_alone(trained, store, model):
    values = TaskEvaluator(store, ("zeroshot", "probe", "knn"), CPU)(model)
    last = trained[0][1].metrics
    assert {f"last/{name}": float(each.mean()) for name, each in values.items()} == {
        name: value for name, value in last.items() if name.startswith("last/")
    }


def test_every_metric_comes_from_its_task(store, model, tmp_path):
    pairs = built(tmp_path / "pairs", "mmvp", plain_pairs(tmp_path / "files"))
    for task in TASKS:
        values = TaskEvaluator(pairs if task == "mmvp" else store, (task,), CPU)(model)
        assert set(values) == set(metrics_of((task,)))
        assert all(len(each) and 0 <= each.mean() <= 1 for each in values.values())
    assert {name for task in TASKS for name in metrics_of((task,))} == set(TASK_METRICS)


@torch.no_grad()
def test_pairs_and_retrieval_of_a_store_are_those_of_its_features(model, tmp_path):
    store = captioned_store(tmp_path / "data")
    split = store.split("test")
    model.eval()
    x = model.encode_image(torch.from_numpy(split.gather(np.arange(6))))
    y = model.encode_text(torch.from_numpy(split.texts.copy()))
    values = TaskEvaluator(store, ("mmvp", "retrieval"), CPU)(model)
    assert values["mmvp/accuracy"].right.tolist() == pair_accuracy(x, y).tolist()
    assert values["retrieval/i2t_r1"].mean() == recalls(x, y, torch.arange(6))["retrieval/i2t_r1"].mean()


def test_allowed_tasks_follow_from_the_contents_of_a_store(store, tmp_path):
    assert allowed_tasks(store) == ("zeroshot", "probe", "knn", "retrieval")
    assert allowed_tasks(captioned_store(tmp_path / "captioned")) == ("retrieval",)
    labeled = open_store(f"imagefolder:{write_image_folder(tmp_path / 'both')}", image_size=32, context_length=16)
    assert allowed_tasks(labeled) == ("zeroshot", "probe", "knn")  # its captions are its labels
    folder = write_image_folder(tmp_path / "test", splits=("test",))
    assert allowed_tasks(open_store(f"imagefolder:{folder}", image_size=32, context_length=16)) == ("zeroshot",)


@pytest.mark.parametrize(
    ("images", "captions", "task", "message"),
    [(6, 1, "probe", "no classes"), (5, 1, "mmvp", "not pairs"), (4, 2, "mmvp", "not pairs")],
)
def test_task_that_the_data_do_not_allow_is_refused(images, captions, task, message, tmp_path):
    with pytest.raises(UserError, match=message):
        TaskEvaluator(captioned_store(tmp_path / "data", images, captions), (task,), CPU)


@pytest.mark.parametrize(
    "write",
    [
        plain_pairs,
        lambda folder: plain_pairs(folder, ("color", "shape")),
        lambda folder: plain_pairs(folder, "x"),
        mmvp,
    ],
    ids=["plain", "two categories", "one category", "MMVP-VLM"],
)
def test_pairs_are_evaluated_from_a_built_store_or_from_their_source(trained, tmp_path, write):
    files = write(tmp_path / "files")
    store = built(tmp_path / "store", "mmvp", files)
    for reference in (store.path, f"mmvp:{files}"):
        result = evaluated(trained[1], "--data", reference, "--tasks", "mmvp", "--json")
        assert result.exit_code == 0, result.output
        (row,) = json.loads(result.stdout)["metrics"].values()
        assert (row["split"], row["n"], row["images"]) == ("pairs", len(store.split("pairs")) // 2, 2 * row["n"])


@pytest.mark.parametrize(
    ("labels", "tasks"),
    [
        (["circle"] * 8, {"probe": "a single class", "knn": "a single class"}),
        (["circle", "square"], {"probe": "of one class without the fifth"}),
        (["circle"] * 4 + ["square"] * 4, {}),
    ],
)
def test_labels_to_learn_from_are_of_two_classes_also_without_the_fifth_that_is_held_out(
    model, tmp_path, labels, tasks
):
    store = labeled_store(tmp_path, {"train": labels, "test": ["circle", "square"]})
    for task in ("zeroshot", "probe", "knn"):
        if task in tasks:
            with pytest.raises(UserError, match=tasks[task]):
                TaskEvaluator(store, (task,), CPU)
        else:
            TaskEvaluator(store, (task,), CPU)(model)


def test_evaluation_never_moves_to_another_split(model, tmp_path):
    both = ["circle", "square"] * 4
    store = labeled_store(tmp_path / "test", {"train": both, "val": both, "test": [*both, None]})
    with pytest.raises(UserError, match="images without a label in test"):
        TaskEvaluator(store, ("zeroshot",), CPU)
    store = labeled_store(tmp_path / "train", {"train": [*both, None], "test": both})
    TaskEvaluator(store, ("zeroshot",), CPU)(model)
    with pytest.raises(UserError, match="images without a label in train"):
        TaskEvaluator(store, ("knn",), CPU)
    store = labeled_store(tmp_path / "labels", {"train": both, "test": both})
    with pytest.raises(UserError, match="labels in place of captions in test"):
        TaskEvaluator(store, ("retrieval",), CPU)


def test_training_on_data_that_do_not_allow_a_task_does_not_start(store, short_module, tmp_path):
    pairs = EvaluationConfig(name="p", data=str(captioned_store(tmp_path / "data").path), tasks=("knn",))
    with pytest.raises(UserError, match="cannot be evaluated by knn"):
        next(train(short_module.model_copy(update={"evaluate": (pairs,)}), store))


# --- gaptune eval ---


def evaluated(*words):
    from click.testing import CliRunner

    return CliRunner().invoke(cli, ["eval", *map(str, words)])


def test_eval_prints_each_metric_with_its_interval(trained, store):
    result = evaluated(trained[1], "--data", store.path, "--json")
    scores = json.loads(result.stdout)["metrics"]
    assert set(scores) == set(TASK_METRICS) - {"mmvp/accuracy"}
    assert scores["zeroshot/top1"]["value"] == trained[0][1].metrics["zeroshot/top1"]
    assert scores["zeroshot/top1"]["n"] == 20
    assert all(row["low"] <= row["value"] <= row["high"] for row in scores.values())
    table = evaluated(trained[1] / "epoch-0002.pt", "--data", store.path, "--tasks", "knn").stdout
    (line,) = table.splitlines()[1:]
    assert line.split()[0] == "knn/top1"
    fitted = len(store.split("probe_train"))
    assert line.endswith(f"probe_test: 20 images, fitted on {fitted} images of probe_train")
    assert scores["knn/top1"] | {"split": "probe_test", "fitted_split": "probe_train"} == scores["knn/top1"]
    assert scores["knn/top1"]["fitted_images"] == fitted
    assert "fitted_split" not in scores["zeroshot/top1"]
    assert scores["retrieval/t2i_r1"]["split"] == "val"


def test_eval_counts_captions_of_images(trained, tmp_path):
    store = captioned_store(tmp_path / "data", images=6, captions=3)
    table = evaluated(trained[1], "--data", store.path).stdout
    lines = {line.split()[0]: line for line in table.splitlines()[1:]}
    assert lines["retrieval/i2t_r1"].endswith("test: 6 images")
    assert lines["retrieval/t2i_r1"].endswith("test: 18 captions of 6 images")


def test_eval_accepts_another_image_size_and_reports_unknown_classes(trained, tmp_path, caplog):
    folder = write_image_folder(tmp_path / "animals", each=6)
    result = evaluated(trained[1], "--data", f"imagefolder:{folder}")
    assert result.exit_code == 0
    assert "knn/top1" in result.stdout
    assert "2 of 2 classes have words that the model's vocabulary lacks (dog, red fox)" in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "scenes", "--tasks", "knm"), "did you mean 'knn'"),
        (("--data", "scenes", "--tasks", "mmvp"), "not pairs"),
        (("--data", "nothing-here"), "no such store"),
    ],
)
def test_eval_refuses_bad_input(trained, words, message):
    assert message in str(evaluated(trained[1], *words).exception)


def test_eval_refuses_files_that_are_not_checkpoints(tmp_path):
    file = tmp_path / "epoch-0001.pt"
    file.write_bytes(b"nothing of the kind")
    for place, message in (
        (file, "no whole checkpoint"),
        (tmp_path, "holds no whole"),
        (tmp_path / "a", "no checkpoint"),
    ):
        error = evaluated(place, "--data", "scenes").exception
        assert isinstance(error, UserError)
        assert message in str(error)
