"""Registered heads embed features as gaptune does, and images and texts where their towers are known."""

import base64
import io
import os
from contextlib import contextmanager

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from exported_heads import FEATURE_OPTIONS, export_heads, stored_features
from PIL import Image

from gaptune.config import TrialConfig
from gaptune.data.open import open_store
from gaptune.towers import open_tower
from gaptune.towers.features import build_features
from gaptune.tracking import default_uri
from gaptune.tracking.registry import register_model
from gaptune.tracking.store import open_client
from gaptune.trial.export import export_model
from gaptune.trial.model import ClipModel

NEAR = 3e-4
"""Stores round features to float16, and how a tower rounds depends on the batch and on the CPU."""

pytestmark = pytest.mark.usefixtures("mlflow_tables")


@pytest.fixture(scope="module")
def register(tmp_path_factory):
    """Registers an exported folder, and loads what was registered."""
    results = tmp_path_factory.mktemp("results")
    uri = default_uri(results)
    client = open_client(uri)
    experiment = client.create_experiment("gaptune", artifact_location=str(results / "artifacts"))
    before = os.environ.get("MLFLOW_TRACKING_URI")  # which set_tracking_uri sets; None unsets it
    mlflow.set_tracking_uri(uri)

    def registered(exported):
        run = client.create_run(experiment).info.run_id
        version = register_model(exported, name="heads", uri=uri, run=run, tags={})
        return mlflow.pyfunc.load_model(f"models:/heads/{version}")

    yield registered
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def plain(register, small_features, tmp_path_factory):
    """Heads whose towers are not known."""
    out = tmp_path_factory.mktemp("plain") / "heads"
    export_heads(open_store(small_features), out, **FEATURE_OPTIONS[2])
    return register(out)


@pytest.fixture(scope="module")
def with_towers(register, small_store, tmp_path_factory):
    """Heads on the features of a small CLIP: the registered model, the images and texts, and gaptune's embeddings."""
    place = tmp_path_factory.mktemp("towers")
    store = open_store(small_store)
    config = TrialConfig.model_validate({"data": {"store": str(small_store)}})
    torch.manual_seed(0)
    state = {"model": ClipModel(config.model, store.meta).tower.state_dict()}
    export_model(config, store, state, beta=10.0, card="", out=place / "clip")
    image, text = (open_tower(f"open_clip:{place / 'clip'}", modality) for modality in ("image", "text"))
    features = build_features(store, image, text, out=place / "features", bar=no_bar)
    ours = export_heads(features, place / "heads")(features.split("val"))
    return register(place / "heads"), store.split("val"), ours


@contextmanager
def no_bar(what):
    yield lambda done, total: None


def embedded(found, modality):
    return np.stack(found[f"{modality}_embedding"].to_numpy())


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_features_have_the_embeddings_of_gaptune(register, small_features, tmp_path):
    split = open_store(small_features).split("val")
    for number, options in enumerate(FEATURE_OPTIONS):
        ours = export_heads(open_store(small_features), tmp_path / str(number), **options)(split)
        images, texts = stored_features(split)
        found = register(tmp_path / str(number)).predict(
            pd.DataFrame(
                {"image_features": list(images), "text_features": texts.tolist()}, index=range(5, 5 + len(images))
            )
        )
        assert list(found.index)[:2] == [5, 6]
        np.testing.assert_allclose(embedded(found, "image"), ours[0], atol=1e-6)
        np.testing.assert_allclose(embedded(found, "text"), ours[1], atol=1e-6)


@pytest.mark.whole
def test_images_and_texts_go_through_the_towers(with_towers):
    model, split, ours = with_towers
    rows = np.arange(4)
    images = [png(pixels) for pixels in split.gather(rows)]
    found = model.predict(pd.DataFrame({"image": images, "text": [split.captions(row)[0] for row in rows]}))
    np.testing.assert_allclose(embedded(found, "image"), ours[0][rows], atol=NEAR)
    np.testing.assert_allclose(embedded(found, "text"), ours[1][split.offsets[rows]], atol=NEAR)


@pytest.mark.whole
def test_a_tower_with_other_weights_is_refused(register, with_towers, tmp_path, small_store):
    store = open_store(small_store)
    config = TrialConfig.model_validate({"data": {"store": str(small_store)}})
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = {"model": ClipModel(config.model, store.meta).tower.state_dict()}
        export_model(config, store, state, beta=10.0, card="", out=tmp_path / f"clip{seed}")
    image, text = (open_tower(f"open_clip:{tmp_path / 'clip1'}", modality) for modality in ("image", "text"))
    features = build_features(store, image, text, out=tmp_path / "features", bar=no_bar)
    export_heads(features, tmp_path / "heads")
    model = register(tmp_path / "heads")
    (tmp_path / "clip1").rename(tmp_path / "before")
    (tmp_path / "clip2").rename(tmp_path / "clip1")
    with pytest.raises(mlflow.exceptions.MlflowException, match="has other weights here than in training"):
        model.predict(pd.DataFrame({"text": ["a circle"]}))


def test_a_dict_of_lists_is_a_table(plain, small_features):
    images, _ = stored_features(open_store(small_features).split("val"))
    table = plain.predict(pd.DataFrame({"image_features": list(images[:2])}))
    for given in ({"image_features": images[:2].tolist()}, pd.DataFrame({"image_features": images[:2].tolist()})):
        np.testing.assert_allclose(embedded(plain.predict(given), "image"), embedded(table, "image"), atol=1e-6)


def test_a_dict_may_have_features_of_one_modality_and_files_of_the_other(with_towers):
    model, split, ours = with_towers
    features = np.ones((2, len(model.input_example["image_features"][0]))).tolist()
    found = model.predict({"text": [split.captions(0)[0], "a circle"], "image_features": features})
    assert embedded(found, "image").shape == embedded(found, "text").shape == (2, 16)
    np.testing.assert_allclose(embedded(found, "text")[0], ours[1][0], atol=NEAR)


GOOD = [0.5] * 24


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (None, "got nothing"),
        ("a circle", "got str"),
        (3.0, "got float"),
        (["a"] * 24, "a list of something else"),
        ([GOOD], "got 1 x 24"),
        (GOOD[:-1], "got 23"),
        ([*GOOD[:-1], float("nan")], "numbers that are not finite"),
        ([*GOOD[:-1], 1e300], "numbers that are not finite"),
    ],
    ids=["nothing", "text", "number", "texts", "nested", "short", "nan", "too large"],
)
def test_features_that_cannot_be_embedded_are_named_by_their_row(plain, cell, said):
    table = pd.DataFrame({"text_features": pd.Series([GOOD, cell], index=["first", "second"], dtype=object)})
    with pytest.raises(mlflow.exceptions.MlflowException) as refused:
        plain.predict(table)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    assert str(refused.value).startswith("row second of `text_features`: expected 24 finite numbers, ")
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_heads_without_known_towers_take_features_only(plain):
    for table in (pd.DataFrame({"text": ["a circle"]}), pd.DataFrame({"image_features": []})):
        with pytest.raises(mlflow.exceptions.MlflowException, match="expected a column `image_features` or `text_fe"):
            plain.predict(table)


def test_features_and_what_they_are_made_of_are_not_both_given(with_towers):
    model, *_ = with_towers
    width = model.input_example["text_features"][0]
    with pytest.raises(mlflow.exceptions.MlflowException, match="expected `text` or `text_features`, got both"):
        model.predict(pd.DataFrame({"text": ["a circle"], "text_features": [list(width)]}))
