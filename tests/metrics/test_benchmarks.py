"""Benchmark scores: against plain loops, and against other people's code on real photographs."""

import contextlib
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from sphere import unit

from gaptune.config import ModelConfig
from gaptune.data.open import open_store
from gaptune.data.tokens import tokenize
from gaptune.metrics import classification as classify
from gaptune.metrics.classification import (
    class_embeddings,
    held_out,
    knn_accuracy,
    linear_probe,
    probe_with_selection,
    zero_shot,
)
from gaptune.metrics.intervals import bootstrap_interval
from gaptune.metrics.mmvp import pair_accuracy
from gaptune.metrics.retrieval import recalls
from gaptune.trial.model import ClipModel


def rng(seed):
    return torch.Generator().manual_seed(seed)


def drawn(n, classes, seed):
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 20), st.integers(2, 8), st.integers(2, 8), st.integers(0, 999))
def test_zero_shot_metrics_agree_with_a_loop(n, classes, d, seed):
    images, texts, labels = unit(n, d, seed), unit(classes, d, seed + 1), drawn(n, classes, seed)
    ranks = [sorted(range(classes), key=lambda c: -row[c]) for row in (images @ texts.T).tolist()]
    place = [ranking.index(label) for ranking, label in zip(ranks, labels.tolist(), strict=True)]
    by_class = {
        label: [at == 0 for at, mine in zip(place, labels.tolist(), strict=True) if mine == label]
        for label in set(labels.tolist())
    }
    expected = {
        "zeroshot/top1": np.mean([at == 0 for at in place]),
        "zeroshot/top5": np.mean([at < 5 for at in place]),
        "zeroshot/mean_per_class_recall": np.mean([np.mean(right) for right in by_class.values()]),
    }
    scores = zero_shot(images, texts, labels)
    assert {name: outcomes.mean() for name, outcomes in scores.items()} == pytest.approx(expected)


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 25), st.integers(0, 999))
def test_neighbors_agree_with_a_loop(n, m, k, seed):
    train, test = unit(n, 4, seed), unit(m, 4, seed + 1)
    train_y, test_y = drawn(n, 3, seed), drawn(m, 3, seed + 1)
    expected = []
    for row, label in zip(test @ train.T, test_y.tolist(), strict=True):
        votes = [0.0, 0.0, 0.0]
        for index in sorted(range(n), key=lambda index: -float(row[index]))[:k]:
            votes[int(train_y[index])] += float(torch.exp(row[index] / 0.07))
        expected.append(float(max(range(3), key=votes.__getitem__) == label))
    assert knn_accuracy(train, train_y, test, test_y, k=k).tolist() == expected


@given(st.integers(1, 12), st.integers(2, 5), st.integers(0, 999))
def test_pairs_agree_with_the_benchmarks_own_rule(pairs, d, seed):
    images, texts = unit(2 * pairs, d, seed), unit(2 * pairs, d, seed + 1)
    expected = []
    for first in range(0, 2 * pairs, 2):
        both = images[first : first + 2]
        fractions = [float((100 * texts[row] @ both.T).softmax(0)[0]) for row in (first, first + 1)]
        expected.append(float(fractions[0] > 0.5 and fractions[1] < 0.5))
    assert pair_accuracy(images, texts).tolist() == expected


def test_pair_of_equal_images_or_texts_counts_as_wrong():
    images, texts = unit(1, 4).repeat(4, 1), unit(4, 4, 1)
    assert pair_accuracy(images, texts).tolist() == [0.0, 0.0]
    assert pair_accuracy(texts, images).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("images", "texts"), [((3, 4), (3, 4)), ((4, 4), (2, 4)), ((4,), (4,))])
def test_pairs_of_other_shapes_are_refused(images, texts):
    with pytest.raises(ValueError, match="pairs"):
        pair_accuracy(torch.zeros(images), torch.zeros(texts))


def test_neighbors_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected train"):
        knn_accuracy(unit(4, 3), drawn(4, 2, 0), unit(4, 2), drawn(4, 2, 0))


def test_probe_chooses_weak_regularization_in_a_narrow_cone_and_strong_one_under_noise():
    labels = torch.arange(4).repeat(50)
    mixed = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    labels = labels[mixed]
    cone = F.normalize(torch.eye(8, dtype=torch.float64)[labels] + 0.1 * unit(200, 8) + 3.0, dim=1)
    assert float(probe_with_selection(cone[:100], labels[:100], cone[100:], labels[100:]).mean()) > 0.95
    # A third of the training labels are wrong: fitted to the letter, they decide.
    x = F.normalize(torch.eye(60, dtype=torch.float64)[labels] + unit(200, 60, 1), dim=1)
    wrong = torch.where(torch.arange(200) % 3 == 0, drawn(200, 4, 2), labels)
    chosen = float(probe_with_selection(x[:100], wrong[:100], x[100:], labels[100:]).mean())
    assert chosen > LogisticRegression(C=1e4, max_iter=1000).fit(x[:100], wrong[:100]).score(x[100:], labels[100:])


def in_a_cone(n, seed):
    """Features of six overlapping classes in a narrow cone, as those of a young CLIP, with their labels."""
    labels = drawn(n, 6, seed)
    scattered = torch.eye(24, dtype=torch.float64)[labels] + 2.5 * unit(n, 24, seed)
    return F.normalize(scattered + 4 * unit(1, 24, 99), dim=1).float(), labels


@pytest.mark.parametrize("seed", [0, 1])
def test_probe_is_scikit_learns_from_nothing_at_every_c(seed, monkeypatch):
    x, y = in_a_cone(400, seed)
    test_x, test_y = in_a_cone(200, seed + 10)
    chosen_by, rest = held_out(len(y))

    def cold(c, x, y):
        model = LogisticRegression(C=c, max_iter=100_000).fit(x.numpy(), y.numpy())
        assert model.n_iter_[0] < 100_000
        return model

    expected = {c: cold(c, x[rest], y[rest]) for c in classify._CS}
    ours, fit = {}, classify._fitted

    def noted(c, features, labels):
        model = fit(c, features, labels)
        ours.setdefault(c, model)  # the first fit of each C; the last is on everything
        return model

    monkeypatch.setattr(classify, "_fitted", noted)
    right = probe_with_selection(x, y, test_x, test_y)
    for c, model in expected.items():
        assert ours[c].score(x[chosen_by], y[chosen_by]) == model.score(x[chosen_by], y[chosen_by])
        np.testing.assert_array_equal(ours[c].coef_, model.coef_)
    best = max(classify._CS, key=lambda c: expected[c].score(x[chosen_by], y[chosen_by]))
    assert right.tolist() == (cold(best, x, y).predict(test_x) == test_y.numpy()).astype(float).tolist()
    assert len({model.score(x[chosen_by], y[chosen_by]) for model in expected.values()}) > 3


def test_probe_that_does_not_converge_logs_a_warning(monkeypatch, caplog):
    x, y = in_a_cone(200, 0)
    linear_probe(x, y, x, y)
    assert caplog.text == ""
    monkeypatch.setattr(classify, "_STEPS", 20)
    linear_probe(x, y, x, y)
    assert "C = 100) has not converged in 20 steps" in caplog.text


def test_probe_of_each_epoch_converges():
    # Many directions of unlike scale in a cone, as those of a trained network.
    labels, scale = drawn(3300, 10, 0), torch.logspace(0, -2, 64)
    spread = scale * (0.3 * torch.eye(10, 64)[labels] + 0.5 * torch.randn(3300, 64, generator=rng(1)))
    (x, test_x), (y, test_y) = F.normalize(spread + 0.25, dim=1).split((3000, 300)), labels.split((3000, 300))
    expected = LogisticRegression(C=100.0, max_iter=100_000).fit(x.numpy(), y.numpy())
    assert expected.n_iter_[0] > 200
    assert linear_probe(x, y, test_x, test_y) == expected.score(test_x.numpy(), test_y.numpy())


@given(st.integers(1, 60), st.integers(0, 999))
def test_interval_contains_the_mean_and_narrows_with_the_level(n, seed):
    values = drawn(n, 2, seed).double()
    low, high = bootstrap_interval(values)
    inner_low, inner_high = bootstrap_interval(values, level=0.5)
    assert 0 <= low <= inner_low <= inner_high <= high <= 1
    assert low <= float(values.mean()) <= high
    assert bootstrap_interval(values) == (low, high)


@pytest.mark.parametrize("values", [drawn(200, 2, 0).double(), torch.rand(150, generator=torch.manual_seed(0))])
def test_interval_agrees_with_scipy(values):
    other = bootstrap((values.numpy(),), np.mean, method="percentile", random_state=0).confidence_interval
    assert bootstrap_interval(values) == pytest.approx((other.low, other.high), abs=0.01)


def test_interval_needs_values():
    with pytest.raises(ValueError, match="expected values"):
        bootstrap_interval(torch.zeros(0))


class Encoders(torch.nn.Module):
    """A gaptune CLIP with the two methods that clip_benchmark calls."""

    def __init__(self, store):
        super().__init__()
        torch.manual_seed(0)
        self.clip = ClipModel(ModelConfig(name="photos-small", vocabulary="full"), store.meta).eval()

    def encode_image(self, images):
        return self.clip.encode_image(images)

    def encode_text(self, tokens):
        return self.clip.encode_text(tokens)


@pytest.fixture(scope="module")
def cifar10_store(cifar10):
    return open_store(f"imagefolder:{cifar10}", image_size=32, context_length=32)


def tokenizer(texts):
    return torch.from_numpy(tokenize(texts, 32).astype(np.int64))


def rows_of(split, step=1):
    rows = np.arange(0, len(split), step)
    return torch.from_numpy(split.gather(rows)), rows


@pytest.mark.whole
@torch.no_grad()
def test_zero_shot_metrics_equal_those_of_clip_benchmark(cifar10_store):
    from clip_benchmark.metrics import zeroshot_classification as theirs

    meta, split = cifar10_store.meta, cifar10_store.split("test")
    images, rows = rows_of(split)
    labels = torch.from_numpy(split.labels[rows])
    model = Encoders(cifar10_store)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=256)
    templates = [prompt.replace("{}", "{c}") for prompt in meta.prompts]
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        classifier = theirs.zero_shot_classifier(model, tokenizer, list(meta.classes), templates, "cpu", amp=False)
        logits, target = theirs.run_classification(model, classifier, loader, "cpu", amp=False)
    # The rest of its `evaluate`: its `accuracy` fails with numpy 2.4 (it makes a float of an array of one).
    order = range(len(meta.classes))
    acc1, acc5 = (top_k_accuracy_score(target, logits, k=k, labels=order) for k in (1, 5))
    mean_per_class_recall = balanced_accuracy_score(target, logits.argmax(1))

    prompts = [template.format(name) for name in meta.classes for template in meta.prompts]
    classes = class_embeddings(model.encode_text(tokenizer(prompts)), len(meta.classes))
    scores = zero_shot(torch.cat([model.encode_image(part) for part in images.split(256)]), classes, labels)
    ours = {name: outcomes.mean() for name, outcomes in scores.items()}
    assert 0 < acc1 < acc5 < 1
    assert ours["zeroshot/top1"] == pytest.approx(acc1, abs=1e-4)
    assert ours["zeroshot/top5"] == pytest.approx(acc5, abs=1e-4)
    assert ours["zeroshot/mean_per_class_recall"] == pytest.approx(mean_per_class_recall, abs=1e-4)


@pytest.mark.whole
@torch.no_grad()
def test_recalls_are_those_of_clip_benchmark(flickr8k, tmp_path):
    from clip_benchmark.metrics import zeroshot_retrieval as theirs

    from gaptune.data.build import build
    from gaptune.data.sources import find_source

    source = find_source(f"coco:{flickr8k}")
    source.splits = ("val",)  # the training part would take a minute to read
    store = build(source, out=tmp_path / "val", image_size=64, context_length=32)
    split = store.split("val")
    images, rows = rows_of(split)
    captions = [split.captions(int(row)) for row in rows]
    model = Encoders(store)
    loader = [(images[at : at + 64], captions[at : at + 64]) for at in range(0, len(images), 64)]
    with contextlib.redirect_stderr(io.StringIO()):
        expected = theirs.evaluate(model, loader, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10])

    owner = torch.from_numpy(np.repeat(rows, [len(each) for each in captions]))
    texts = torch.from_numpy(split.texts.astype(np.int64))
    x = torch.cat([model.encode_image(part) for part in images.split(64)])
    y = torch.cat([model.encode_text(part) for part in texts.split(256)])
    hits = recalls(x, y, owner)
    for k in (1, 5, 10):
        assert float(hits[f"retrieval/t2i_r{k}"].mean()) == pytest.approx(
            expected[f"image_retrieval_recall@{k}"], abs=1e-4
        )
        assert float(hits[f"retrieval/i2t_r{k}"].mean()) == pytest.approx(
            expected[f"text_retrieval_recall@{k}"], abs=1e-4
        )
