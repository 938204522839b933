"""What is exported gives the same embeddings through plain open_clip."""

import json
import math

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from gaptune.config import TrialConfig
from gaptune.data.open import open_store
from gaptune.errors import UserError
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
