"""Whole trainings: what they report, what decides them, and how they go on after an interruption."""

import itertools
import math

import pytest
import torch

from gaptune.config import ModelConfig
from gaptune.data import StoreWriter
from gaptune.errors import UserError
from gaptune.metrics.table import METRICS
from gaptune.space.methods import METHODS
from gaptune.trial import NonFinite, step, train
from gaptune.trial.checkpoint import Checkpoints
from gaptune.trial.loop import Training, trained_model
from gaptune.trial.model import ClipModel


@pytest.fixture
def watched(monkeypatch):
    """Lists what the steps of a training see: ``batches`` of images and tokens, ``features`` and ``losses``."""
    seen = {"batches": [], "features": [], "losses": []}
    image_inputs, text_inputs, loss = ClipModel.image_inputs, ClipModel.text_inputs, step.clip_loss

    def watched_images(model, images, drawn=None):
        if model.training:
            seen["batches"].append([images.clone()])
        return image_inputs(model, images, drawn)

    def watched_texts(model, tokens, drawn=None):
        if model.training:
            tokens = torch.nn.functional.pad(tokens, (0, model.context_length - tokens.shape[1]))
            seen["batches"][-1].append(tokens.clone())
        return text_inputs(model, tokens, drawn)

    def watched_loss(x, y, beta):
        value = loss(x, y, beta)
        seen["features"].append((x.detach().clone(), y.detach().clone()))
        seen["losses"].append(value.item())
        return value

    monkeypatch.setattr(ClipModel, "image_inputs", watched_images)
    monkeypatch.setattr(ClipModel, "text_inputs", watched_texts)
    monkeypatch.setattr(step, "clip_loss", watched_loss)

    def run(config, store):
        for found in seen.values():
            found.clear()
        reports = list(train(config, store))
        return {"reports": reports} | {name: list(found) for name, found in seen.items()}

    return run


def epochs(trial, before, after):
    """Trains from one number of epochs to another, and reports."""
    for _ in trial.steps(before, after):
        pass
    return trial.report(before, after)


def equal(one, other):
    """Whether two nested structures of tensors, numbers and texts are the same to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def timeless(report):
    """A report's content without wall times."""
    metrics = {name: value for name, value in report.metrics.items() if not name.startswith("time/")}
    return report.epoch, report.step, metrics


# --- reports ---


def test_one_report_per_epoch_with_every_metric(store, short):
    reports = list(train(short(), store))
    assert [(report.epoch, report.step) for report in reports] == [(1, 4), (2, 8)]
    for report in reports:
        assert set(report.metrics) == set(METRICS)
        assert all(type(value) is float and math.isfinite(value) for value in report.metrics.values())


@pytest.fixture(scope="module")
def often(store, short):
    """The reports of five epochs, after each one."""
    return list(train(short({"training.epochs": 5}), store))


@pytest.mark.parametrize(("every", "epochs"), [(2, [2, 4, 5]), (4, [4, 5]), (5, [5]), (100, [5])])
def test_reports_and_checkpoints_come_after_every_nth_epoch_and_the_last(every, epochs, often, store, short, tmp_path):
    config = short({"training.epochs": 5, "training.evaluate_every": every})
    seldom = list(train(config, store, checkpoints=tmp_path))
    assert [(report.epoch, report.step) for report in seldom] == [(epoch, 4 * epoch) for epoch in epochs]
    kept = sorted(path.name for path in tmp_path.glob("epoch-????.pt"))
    assert kept == [f"epoch-{epoch:04d}.pt" for epoch in epochs[-2:]]
    averaged = ("train/loss", "train/swapped_fraction")
    for report in seldom:
        _, _, metrics = timeless(report)
        _, _, same = timeless(often[report.epoch - 1])
        assert {k: v for k, v in metrics.items() if k not in averaged} == {
            k: v for k, v in same.items() if k not in averaged
        }
    losses = [report.metrics["train/loss"] for report in often]
    assert seldom[0].metrics["train/loss"] == pytest.approx(sum(losses[: epochs[0]]) / epochs[0])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method, store, short):
    first, second = train(short(METHODS[method]), store)
    assert second.metrics["train/loss"] < first.metrics["train/loss"]
    assert set(second.metrics) == set(METRICS)


def test_reports_show_the_current_value_of_a_schedule(store, short):
    config = short({"temperature.schedule": "linear", "temperature.tau_start": 0.02, "temperature.tau_end": 0.06})
    taus = [report.metrics["temperature/tau"] for report in train(config, store)]
    assert taus == pytest.approx([0.04, 0.06])


def test_training_learns_to_find_its_captions(store, short):
    reports = list(train(short({"training.epochs": 12}), store))
    losses = [report.metrics["train/loss"] for report in reports]
    assert losses[-1] < losses[0] - 0.8
    assert reports[-1].metrics["retrieval/mean_r10"] > 0.25  # chance: 0.16 for a text, more for an image


GOLDEN = [4.2085, 3.5687, 3.4625, 3.309, 3.29]
"""Losses of a fixed training. A change that is meant to alter them records them anew (`-k golden` prints both)."""


def test_golden_curve(store, short):
    losses = [report.metrics["train/loss"] for report in train(short({"training.epochs": 5}), store)]
    assert losses == pytest.approx(GOLDEN, rel=1e-2)


def test_bf16_trains_nearly_as_single_precision_does(store, short):
    losses = {
        precision: [report.metrics["train/loss"] for report in train(short({"training.precision": precision}), store)]
        for precision in ("fp32", "bf16")
    }
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["bf16"] != losses["fp32"]


def test_augmentation_and_gradient_clipping_change_the_training(store, short):
    plain, other = (
        list(train(short(params), store))[-1].metrics["train/loss"]
        for params in ({}, {"augment.crop_min": 0.5, "augment.flip": True, "optimizer.clip_norm": 0.1})
    )
    assert plain != other


# --- what decides a training ---


def test_two_runs_are_equal_to_the_bit_whatever_the_callers_random_numbers(watched, store, short):
    config = short({"swap.kind": "soft", "swap.probability": 0.5, "augment.crop_min": 0.5, "augment.flip": True})
    torch.manual_seed(1)
    first = watched(config, store)
    torch.manual_seed(2)
    second = watched(config, store)
    assert first["losses"] == second["losses"]
    assert equal(first["batches"], second["batches"])
    assert [*map(timeless, first["reports"])] == [*map(timeless, second["reports"])]


def test_training_does_not_change_the_callers_random_state(store, short):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    list(train(short({"swap.kind": "hard", "swap.probability": 1.0, "augment.flip": True}), store))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_trials_of_one_seed_start_from_the_same_weights_and_see_the_same_batches(watched, store, short):
    runs = [
        watched(short(METHODS[method], **{"optimizer.lr": lr}), store)
        for method, lr in (("Baseline", 1e-3), ("TS S3", 5e-3), ("TR softplus", 1e-4))
    ]
    for run in runs[1:]:
        assert equal(run["batches"], runs[0]["batches"])
        assert equal(run["features"][0], runs[0]["features"][0])  # before the first update
        assert run["losses"][1:] != runs[0]["losses"][1:]


def test_different_seed_gives_a_different_training(watched, store, short):
    one, other = watched(short(), store), watched(short(seed=1), store)
    assert not equal(one["features"][0], other["features"][0])
    assert not equal(one["batches"][0], other["batches"][0])


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_swap_does_not_change_the_batches(kind, watched, store, short):
    without = watched(short(), store)
    swapped = watched(short({"swap.kind": kind, "swap.probability": 1.0}), store)
    assert equal(swapped["batches"], without["batches"])
    for before, after in zip(without["features"][0], swapped["features"][0], strict=True):
        assert not torch.equal(before, after)
    sums = [sum(run["features"][0]) for run in (without, swapped)]
    torch.testing.assert_close(*sums)
    assert [report.metrics["train/swapped_fraction"] for report in swapped["reports"]] == [1.0, 1.0]
    assert [report.metrics["train/swapped_fraction"] for report in without["reports"]] == [0.0, 0.0]


def test_epoch_sees_every_image_once_each_with_a_caption_of_its_own(watched, store, short):
    batches, split = watched(short(), store)["batches"], store.split("train")
    row_of = {split.gather([row]).tobytes(): row for row in range(len(split))}
    assert len(row_of) == len(split)  # no two images are the same
    orders, captions = [], []
    for epoch in (batches[:4], batches[4:]):
        rows, chosen = [], {}
        for image, tokens in ((i, t) for images, texts in epoch for i, t in zip(images, texts, strict=True)):
            row = row_of[image.numpy().tobytes()]
            own = split.texts[split.offsets[row] : split.offsets[row + 1]].tolist()
            chosen[row] = own.index(tokens.tolist())
            rows.append(row)
        assert sorted(rows) == list(range(len(split)))
        orders.append(rows)
        captions.append(chosen)
    assert orders[0] != orders[1]
    assert captions[0] != captions[1]
    assert set(captions[0].values()) == {0, 1, 2, 3}


# --- going on ---


KNOBS = {
    "training.epochs": 3,
    "swap.kind": "soft",
    "swap.probability": 0.5,
    "augment.crop_min": 0.5,
    "augment.flip": True,
}


@pytest.fixture(scope="module")
def undisturbed(store, short, tmp_path_factory):
    """Reports and last state of a training that nobody interrupted."""
    folder = tmp_path_factory.mktemp("undisturbed")
    reports = list(train(short(KNOBS), store, checkpoints=folder))
    return reports, Checkpoints(folder).load()


def learned(state):
    return {name: state[name] for name in ("config", "model", "scale")}


@pytest.mark.parametrize("epochs", [1, 2])
def test_training_that_resumes_ends_as_the_undisturbed_one(epochs, undisturbed, store, short, tmp_path):
    reports, end = undisturbed
    heard = list(itertools.islice(train(short(KNOBS), store, checkpoints=tmp_path), epochs))
    again = list(train(short(KNOBS), store, checkpoints=tmp_path))
    assert again[0] == heard[-1]  # the checkpoint's own report first, wall times and all
    assert [*map(timeless, heard), *map(timeless, again[1:])] == [*map(timeless, reports)]
    assert equal(learned(Checkpoints(tmp_path).load()), learned(end))


def test_training_without_checkpoints_is_the_same(undisturbed, store, short):
    assert [*map(timeless, train(short(KNOBS), store))] == [*map(timeless, undisturbed[0])]


def test_finished_training_repeats_its_last_report(undisturbed, store, short, tmp_path):
    Checkpoints(tmp_path).save(3, undisturbed[1])
    assert list(train(short(KNOBS), store, checkpoints=tmp_path)) == [undisturbed[0][-1]]


def test_damaged_newest_checkpoint_loses_one_epoch_only(undisturbed, store, short, tmp_path, caplog):
    list(itertools.islice(train(short(KNOBS), store, checkpoints=tmp_path), 2))
    newest = tmp_path / "epoch-0002.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    again = list(train(short(KNOBS), store, checkpoints=tmp_path))
    assert "epoch-0002.pt is damaged" in caplog.text
    assert [*map(timeless, again)] == [*map(timeless, undisturbed[0])]
    assert equal(learned(Checkpoints(tmp_path).load()), learned(undisturbed[1]))


@pytest.mark.parametrize("part", ["model", "scale", "optimizer"])
def test_checkpoint_with_a_good_seal_and_bad_content_is_refused_in_one_line(part, store, short, tmp_path):
    list(itertools.islice(train(short(KNOBS), store, checkpoints=tmp_path), 1))
    kept = Checkpoints(tmp_path)
    state = kept.resume(kept.load()["config"], 3)
    kept.save(1, {**state, part: {"another": torch.zeros(3)}})
    with pytest.raises(UserError, match=r"^the newest checkpoint does not fit its model: \w+: [^\n]+$"):
        next(train(short(KNOBS), store, checkpoints=tmp_path))


@pytest.mark.parametrize(
    "changes", [{"model": {}}, {"data": {}}, {"config": "no JSON"}, {"config": "{}"}, {"config": None}, {"data": None}]
)
def test_checkpoint_that_does_not_hold_its_model_is_refused_in_one_line(changes, undisturbed):
    with pytest.raises(UserError, match=r"^the checkpoint does not hold the model that it names: \w+: [^\n]+$"):
        trained_model(undisturbed[1] | changes)


@pytest.mark.parametrize("other", [{"seed": 1}, {"optimizer.lr": 1e-4}, {"training.epochs": 4}])
def test_checkpoints_of_another_configuration_are_refused(other, undisturbed, store, short, tmp_path):
    Checkpoints(tmp_path).save(3, undisturbed[1])
    with pytest.raises(UserError, match="another configuration"):
        next(train(short(KNOBS | other), store, checkpoints=tmp_path))


def test_training_may_resume_on_another_device_and_store_path(undisturbed, store, short, tmp_path):
    Checkpoints(tmp_path).save(3, undisturbed[1])
    moved = short(KNOBS, **{"data.store": "elsewhere/few-scenes", "device": "auto"})
    assert next(train(moved, store, checkpoints=tmp_path)) == undisturbed[0][-1]


# --- what goes wrong ---


def test_loss_that_is_not_finite_is_raised_before_the_update(store, short, monkeypatch):
    trial = Training(short(), store)
    epochs(trial, 0, 1)
    before = [tensor.clone() for tensor in (*trial.model.tower.state_dict().values(), trial.scale.nu.detach())]
    loss = step.clip_loss
    monkeypatch.setattr(step, "clip_loss", lambda x, y, beta: loss(x * math.nan, y, beta))
    with pytest.raises(NonFinite, match=r"^loss nan at step 4$"):
        epochs(trial, 1, 2)
    after = [*trial.model.tower.state_dict().values(), trial.scale.nu.detach()]
    names = trial.model.tower.state_dict()
    for name, one, other in zip([*names, "nu"], before, after, strict=True):
        if "running_" not in name and "num_batches" not in name:  # statistics of the forward pass
            assert torch.equal(one, other), name


def test_training_that_diverges_is_reported_as_such(store, short):
    with pytest.raises(NonFinite, match=r"not finite|nan"):
        list(train(short({"optimizer.lr": 1e30}), store))


def test_weights_that_diverge_in_an_epochs_last_step_are_reported_as_such(store, short):
    with pytest.raises(NonFinite, match="features are not finite"):
        list(train(short({"optimizer.lr": 1e30, "training.batch_size": 128}), store))


def test_diverging_temperature_is_reported(store, short):
    # Down to β = 0, for which τ has no value; the loss is then that of guessing, and finite.
    with pytest.raises(NonFinite, match="temperature/tau"):
        list(train(short({"temperature.lr": 1e5, "optimizer.lr": 1e-9, "optimizer.warmup": 0.0}), store))


def test_batch_larger_than_the_data_is_refused(store, short):
    with pytest.raises(UserError, match="batch_size 129 is more than the 128 training images"):
        next(train(short({"training.batch_size": 129}), store))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_gpu_is_refused(store, short):
    with pytest.raises(UserError, match="torch cannot use a GPU here"):
        next(train(short(device="cuda"), store))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_trains_as_the_cpu_does(store, short):
    losses = {
        device: [report.metrics["train/loss"] for report in train(short(KNOBS, device=device), store)]
        for device in ("cpu", "cuda")
    }
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-2)


def excerpt(store, out, **splits):
    """The first rows of some splits as a store without labels."""
    with StoreWriter(out, store.meta.image_size, store.meta.context_length) as writer:
        for name, rows in splits.items():
            split = store.split(name)
            for row in range(rows):
                tokens = split.texts[split.offsets[row] : split.offsets[row + 1]]
                writer.add(name, split.gather([row])[0], split.captions(row), tokens, id=str(row))
        return writer.finish(name=out.name, source={})


def test_store_without_labels_has_no_classification_metrics(store, short, tmp_path):
    report = next(train(short(), excerpt(store, tmp_path / "unlabeled", train=32, val=16)))
    assert set(METRICS) - set(report.metrics) == {"zeroshot/top1", "probe/top1"}


def test_single_validation_image_is_refused(store, short, tmp_path):
    with pytest.raises(UserError, match="single val image"):
        next(train(short(), excerpt(store, tmp_path / "single", train=32, val=1)))


def hooked(config, store, weight, change):
    """A training in which each gradient of a weight is changed."""
    trial = Training(config, store)
    dict(trial.model.tower.named_parameters(), nu=trial.scale.nu)[weight].register_hook(change)
    return trial


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("weight", ["text_projection", "nu"])
@pytest.mark.parametrize("factor", [math.inf, math.nan])
def test_gradient_that_is_not_finite_stops_a_training_before_the_update(clip_norm, weight, factor, store, short):
    trial = hooked(short({"optimizer.clip_norm": clip_norm}), store, weight, lambda gradient: gradient * factor)
    before = [each.detach().clone() for each in trial.model.parameters()]
    with pytest.raises(NonFinite, match=r"the gradient's norm is (inf|nan) at step 0"):
        epochs(trial, 0, 1)
    assert equal(before, [each.detach() for each in trial.model.parameters()])


def test_gradient_whose_square_is_not_finite_stops_a_training(store, short):
    """AdamW's second moment would be infinite, and no weight would ever move again."""
    trial = hooked(short(), store, "text_projection", lambda gradient: torch.full_like(gradient, 1e20))
    with pytest.raises(NonFinite, match="the gradient's norm is inf at step 0"):
        epochs(trial, 0, 1)


def test_clipping_is_over_the_temperature_too(store, short):
    trial = hooked(short({"optimizer.clip_norm": 1.0}), store, "nu", lambda gradient: gradient * 0 + 1e6)
    next(trial.steps(0, 1))
    gradients = [each.grad for group in trial.optimizer.param_groups for each in group["params"]]
    assert math.sqrt(sum(float(each.square().sum()) for each in gradients)) == pytest.approx(1.0, rel=1e-3)
    assert float(trial.scale.nu.grad) == pytest.approx(1.0, rel=1e-3)


def test_infinite_weight_that_no_batch_uses_stops_a_training(store, short):
    config = short()
    trial = Training(config.model_copy(update={"model": ModelConfig(vocabulary="full")}), store)
    unread = next(token for token in range(1, 49_408) if token not in store.meta.vocabulary)
    with torch.no_grad():
        trial.model.tower.token_embedding.weight[unread] = math.inf
    with pytest.raises(NonFinite, match=r"weights after epoch 1: token_embedding\.weight$"):
        epochs(trial, 0, 1)


@pytest.mark.parametrize("given", [0.07, 0.0123456789])
def test_fixed_temperature_is_reported_as_it_was_given(given, store, short):
    config = short({"temperature.schedule": "constant", "temperature.tau_start": given, "training.epochs": 1})
    (report,) = train(config, store)
    assert report.metrics["temperature/tau"] == given
    assert report.metrics["temperature/beta"] == 1.0 / given


def test_learned_temperature_at_its_bound_is_reported_as_the_bound(store, short):
    config = short({"temperature.tau_max": 0.07, "temperature.lr": 1.0})
    assert 0.07 in [report.metrics["temperature/tau"] for report in train(config, store)]
