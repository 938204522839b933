"""A registered model embeds raw files as gaptune's stores do, and says which row it cannot embed."""

import base64
import contextlib
import io
import math
import os
import warnings

import mlflow
import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image

from gaptune.config import TrialConfig
from gaptune.data.build import build
from gaptune.data.open import open_store
from gaptune.data.sources import find_source
from gaptune.tracking import default_uri
from gaptune.tracking.registry import register_model
from gaptune.tracking.store import open_client
from gaptune.trial.embed import Features, evaluating
from gaptune.trial.export import export_model
from gaptune.trial.model import ClipModel

pytestmark = pytest.mark.usefixtures("mlflow_tables")


@pytest.fixture(scope="module")
def trained(small_store):
    """A model, with weights that were never trained, and its configuration."""
    config = TrialConfig.model_validate({"data": {"store": str(small_store)}})
    torch.manual_seed(0)
    return config, ClipModel(config.model, open_store(small_store).meta).eval()


@pytest.fixture(scope="module")
def exported(trained, small_store, tmp_path_factory):
    config, model = trained
    out = tmp_path_factory.mktemp("exported") / "model"
    state = {"model": model.tower.state_dict()}
    export_model(config, open_store(small_store), state, beta=10.0, card="# card", out=out)
    return out


@pytest.fixture(scope="module")
def registered(exported, tmp_path_factory):
    """The registered model, and what was said meanwhile: warnings, and lines on standard error."""
    results = tmp_path_factory.mktemp("results")
    uri = default_uri(results)
    client = open_client(uri)
    experiment = client.create_experiment("gaptune", artifact_location=str(results / "artifacts"))
    run = client.create_run(experiment).info.run_id
    said = io.StringIO()
    with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stderr(said):
        warnings.simplefilter("always")
        version = register_model(exported, name="clip", uri=uri, run=run, tags={"sweep": "s"})
    before = os.environ.get("MLFLOW_TRACKING_URI")  # which set_tracking_uri sets; None unsets it
    mlflow.set_tracking_uri(uri)
    words = [*(str(each.message) for each in warned), *said.getvalue().splitlines()]
    yield mlflow.pyfunc.load_model(f"models:/clip/{version}"), words
    mlflow.set_tracking_uri(before)


def encoded(image, form="PNG"):
    file = io.BytesIO()
    image.save(file, form)
    return base64.b64encode(file.getvalue()).decode()


def noise(width, height):
    """As sharp as can be."""
    drawn = np.random.default_rng(width).integers(0, 2, (height, width, 3), np.uint8)
    return Image.fromarray(drawn * np.uint8(255))


PICTURES = {
    "larger.jpg": noise(1000, 750),
    "upright.jpg": noise(300, 500),
    "wide.png": noise(333, 64),
    "as-it-is.png": noise(64, 64),
    "smaller.png": noise(40, 31),
    "line.png": noise(1, 90),
    "gray.jpg": Image.linear_gradient("L").resize((301, 200)),
    "palette.png": noise(120, 100).convert("P"),
}


@pytest.mark.whole
def test_raw_files_have_one_embedding_in_stores_in_the_export_and_in_the_registry(
    trained, exported, registered, tmp_path
):
    _, model = trained
    folder = tmp_path / "files" / "test" / "class"
    folder.mkdir(parents=True)
    for name, picture in PICTURES.items():
        picture.save(folder / name)
    source = find_source(f"imagefolder:{tmp_path / 'files'}")
    sizes = {"image_size": model.image_size, "context_length": model.context_length}
    split = build(source, out=tmp_path / "store", **sizes).split("test")
    assert len(split) == len(PICTURES)
    with evaluating(model):
        ours = Features(model, torch.device("cpu"), "fp32").images(split).numpy()

    plain, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{exported}")
    files = [tmp_path / "files" / name for name in split.ids]
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.open(file).convert("RGB")) for file in files])
        theirs = plain.eval().encode_image(pixels, normalize=True).numpy()
    table = pd.DataFrame({"image": [base64.b64encode(file.read_bytes()).decode() for file in files]})
    served = np.stack(registered[0].predict(table)["image_embedding"])
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
    np.testing.assert_allclose(served, ours, atol=1e-5)


def test_a_table_a_dict_and_data_urls_are_read_alike(registered):
    model, _ = registered
    picture = encoded(noise(20, 10))
    table = pd.DataFrame({"text": ["a circle", ""], "image": [picture, picture]}, index=["p", "q"])
    found = model.predict(table)
    assert list(found.index) == ["p", "q"]
    assert np.linalg.norm(np.stack(found["text_embedding"]), axis=1) == pytest.approx(1.0, abs=1e-5)
    urls = [f"data:image/png;base64,{picture}", f"data:image/png;name=a,b.png;base64,{picture[:9]}\n{picture[9:]}"]
    again = model.predict({"text": ["a circle", ""], "image": urls})
    one = model.predict({"text": "a circle", "image": picture})
    for column in ("text_embedding", "image_embedding"):
        np.testing.assert_allclose(np.stack(again[column]), np.stack(found[column]), atol=1e-6)
        np.testing.assert_allclose(one[column][0], found[column]["p"], atol=1e-5)


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("text", None, "got nothing"),
        ("text", math.nan, "got nothing"),
        ("text", pd.NA, "got nothing"),
        ("text", {"raw": "a circle"}, "got dict"),
        ("text", ["a circle"], "got list"),
        ("text", 3, "got int"),
        ("image", None, "got nothing"),
        ("image", math.nan, "got nothing"),
        ("image", {"bytes": b""}, "got dict"),
        ("image", b"\x89PNG", "got bytes"),
        ("image", "", "no image of a known format"),
        ("image", "pictures/1.png", "got 'pictures/1.png', which is not base64"),
        ("image", "https://host/1.png", "which is not base64"),
        ("image", "ünicode", "which is not base64"),
        ("image", "data:image/png,raw", "no image of a known format"),
        ("image", "data:image/png;base64,AAAA", "no image of a known format"),
        ("image", base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0").decode(), "no image of a known format"),
        ("image", encoded(noise(64, 64))[:400], "cannot be read"),
        ("image", encoded(Image.new("I;16", (4, 4))), "more than eight bits a color"),
        ("image", encoded(Image.new("F", (4, 4)), "TIFF"), "more than eight bits a color"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_embedded_is_named_by_its_row(registered, column, cell, said):
    good = {"text": "a circle", "image": encoded(noise(9, 9))}[column]
    table = pd.DataFrame({column: pd.Series([good, cell], index=["first", "second"], dtype=object)})
    with pytest.raises(mlflow.exceptions.MlflowException) as refused:
        registered[0].predict(table)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    assert str(refused.value).startswith(f"row second of `{column}`: expected ")
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_table_without_anything_to_embed_is_refused(registered):
    model, _ = registered
    for table in (pd.DataFrame({"caption": ["a"]}), {"text": []}, ["a circle"]):
        with pytest.raises(mlflow.exceptions.MlflowException, match="expected a column `text`"):
            model.predict(table)
    with pytest.raises(mlflow.exceptions.MlflowException, match="differ in length"):
        model.predict({"text": ["a", "b"], "image": [encoded(noise(9, 9))]})


def test_an_example_is_kept_with_the_model_and_mlflow_says_nothing(registered):
    model, words = registered
    example = model.input_example
    assert list(example.columns) == ["text", "image"]
    assert len(model.predict(example)) == 1
    signs = ("mlflow", "example", "signature", "type hint", "egistered", "artifacts")
    assert [text for text in words if any(sign in text for sign in signs)] == []
