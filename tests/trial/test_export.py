"""What is exported gives the same embeddings through plain open_clip, or for heads through plain torch."""

import json
import math
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from exported_heads import FEATURE_OPTIONS, export_heads, stored_features
from markdown_blocks import blocks
from PIL import Image
from safetensors.torch import load_file

from gaptune.config import TrialConfig
from gaptune.data.embeddings import Request, build_embeddings
from gaptune.data.embeddings.places import find_place
from gaptune.data.open import open_store
from gaptune.errors import UserError
from gaptune.results.model_card import LOADER
from gaptune.trial.export import export_model
from gaptune.trial.model import ClipModel

KNOWN = "a photo of a large red circle on a blue background"
UNKNOWN = "zebras, quarrelling über the pianoforte"


def features_of(model, split, texts_of, context):
    from gaptune.data.tokens import tokenize

    with torch.no_grad():
        images = model.encode_image(torch.from_numpy(split.gather(np.arange(4))))
        tokens = torch.from_numpy(tokenize(texts_of, context).astype(np.int64))
        return images, model.encode_text(tokens)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("name", "size"), [("scenes-tiny", None), ("photos-small", 32), ("ViT-S-32-alt", 32)], ids=lambda value: str(value)
)
def test_plain_open_clip_gives_the_same_embeddings(tmp_path, small_store, name, size):
    store = open_store(small_store)
    config = TrialConfig.model_validate(
        {"model": {"name": name, "image_size": size}, "data": {"store": str(small_store)}}
    )
    torch.manual_seed(0)
    model = ClipModel(config.model, store.meta).eval()
    for buffer in model.buffers():  # running statistics of a trained model are not 0 and 1
        if buffer.dtype == torch.float32 and buffer.ndim == 1:
            buffer.uniform_(0.5, 1.5)
    out = tmp_path / "exported"
    export_model(config, store, {"model": model.tower.state_dict()}, beta=25.0, card="# card", out=out)

    plain, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{out}")
    plain.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{out}")
    assert math.isclose(float(plain.logit_scale.exp()), 25.0, rel_tol=1e-6)

    split, captions = store.split("val"), [*store.split("val").captions(0), KNOWN, UNKNOWN]
    images, texts = features_of(model, split, captions, store.meta.context_length)
    pictures = []
    for index, pixels in enumerate(split.gather(np.arange(4))):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        with Image.open(tmp_path / f"{index}.png") as picture:
            pictures.append(preprocess(picture))
    with torch.no_grad():
        their_images = plain.encode_image(torch.stack(pictures), normalize=True)
        their_texts = plain.encode_text(tokenizer(captions), normalize=True)
    assert float((their_images - images).abs().max()) < 1e-5
    assert float((their_texts - texts).abs().max()) < 1e-5


def test_export_never_overwrites_files_and_leaves_no_partial_ones(tmp_path, small_store):
    store = open_store(small_store)
    config = TrialConfig.model_validate({"data": {"store": str(small_store)}})
    state = {"model": ClipModel(config.model, store.meta).tower.state_dict()}
    out = tmp_path / "exported"
    export_model(config, store, state, beta=10.0, card="# card", out=out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported"]
    assert json.loads((out / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]["vocab_size"] == 49408
    with pytest.raises(UserError, match="exists; remove it"):
        export_model(config, store, state, beta=10.0, card="# card", out=out)


def loader(exported):
    """The function ``embed`` of the guide, for a folder of heads."""
    guide = (Path(__file__).parents[2] / "docs/guides/models.md").read_text()
    (code,) = [block.text for block in blocks(guide) if block.kind == "python" and "heads.json" in block.text]
    assert code == LOADER.replace("FOLDER", "DIR")
    namespace = {}
    exec(code.replace("DIR", str(exported)), namespace)
    return namespace["embed"]


@pytest.mark.parametrize("options", FEATURE_OPTIONS, ids=lambda options: options["head"])
def test_ten_lines_of_torch_embed_as_gaptune_does(options, tmp_path, small_features):
    store = open_store(small_features)
    ours = export_heads(store, tmp_path / "exported", **options)(store.split("val"))
    embed = loader(tmp_path / "exported")
    for modality, features, expected in zip(("image", "text"), stored_features(store.split("val")), ours, strict=True):
        np.testing.assert_allclose(embed(torch.from_numpy(features), modality), expected, atol=1e-6)
    assert (tmp_path / "exported/README.md").read_text() == "# card"


def test_the_json_file_has_what_is_not_in_the_weights(tmp_path, small_features):
    store = open_store(small_features)
    export_heads(store, tmp_path / "exported", head="mlp", bias=False)
    told = json.loads((tmp_path / "exported/heads.json").read_text())
    assert (told["head"], told["width"], told["bias"], told["normalize"]) == ("mlp", 16, False, True)
    assert (told["logit_scale"], told["temperature"]) == (25.0, 0.04)
    assert told["features"] == {name: {"width": 24, "tower": None} for name in ("image", "text")}
    assert told["treatment"] == {"normalize": False, "center": False}
    assert told["inputs"] == ["image_features", "text_features"]
    assert told["store"]["content_hash"] == store.meta.content_hash
    weights = load_file(tmp_path / "exported/heads.safetensors")
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == {
        f"{modality}.{layer}.weight": shape
        for modality in ("image", "text")
        for layer, shape in (("hidden", (16, 24)), ("output", (16, 16)))
    }


def test_exported_heads_take_features_before_normalization_and_centering(tmp_path):
    draw = np.random.default_rng(0)
    for name, width in (("image", 12), ("text", 8)):
        np.save(tmp_path / f"{name}.npy", 3 + draw.standard_normal((40, width)).astype(np.float32))
    given = {name: {"train": [find_place(str(tmp_path / f"{name}.npy"))]} for name in ("image", "text")}
    store = build_embeddings(Request(**given, val_fraction=0.2, normalize=True, center=True), out=tmp_path / "store")
    ours = export_heads(store, tmp_path / "exported")(store.split("val"))
    embed = loader(tmp_path / "exported")
    for modality, expected in zip(("image", "text"), ours, strict=True):
        raw = torch.from_numpy(np.load(tmp_path / f"{modality}.npy"))
        distances = torch.cdist(
            embed(raw, modality), torch.from_numpy(expected), compute_mode="donot_use_mm_for_euclid_dist"
        )
        assert float(distances.min(0).values.max()) < 1e-5
        assert float(distances.min(1).values.max()) > 0.1


def test_towers_of_a_store_are_named_in_the_export(tmp_path, small_features):
    store = open_store(small_features)
    tower = {"tower": "offline:efficientnet-lite0", "weights": "a1", "width": 24}
    store.meta.source.update(image_tower=tower, text_tower={**tower, "tower": "scenes-tiny@random"}, image_size=64)
    export_heads(store, tmp_path / "exported")
    told = json.loads((tmp_path / "exported/heads.json").read_text())
    assert told["features"]["image"]["tower"] == tower
    assert told["inputs"] == ["image_features", "text_features", "image"]
    assert told["store"]["image_size"] == 64
    del store.meta.source["image_size"]  # as in stores of early versions
    export_heads(store, tmp_path / "early")
    assert json.loads((tmp_path / "early/heads.json").read_text())["inputs"] == ["image_features", "text_features"]
