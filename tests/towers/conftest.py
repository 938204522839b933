"""Tiny models with random weights, in the directories that their libraries write."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from support import needs

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "dogs", "runs", "two", "small", "red", "square")


def quiet(cls, config):
    """A model of a configuration with random weights, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls(config).eval()


@pytest.fixture(scope="module", autouse=True)
def outside_notebooks():
    """Hides marimo, which other tests import: beside it transformers takes every program for a notebook of IPython."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "marimo", raising=False)
        yield


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """A text model of 16 numbers with its tokenizer."""
    needs("transformers")
    import transformers

    folder = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    quiet(transformers.BertModel, config).save_pretrained(folder)
    tokenizer(transformers, folder)
    return folder


@pytest.fixture(scope="session")
def vit(tmp_path_factory):
    """An image model of 16 numbers, without weights of a pooling layer."""
    needs("transformers")
    import transformers

    folder = tmp_path_factory.mktemp("vit")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    model = quiet(transformers.ViTModel, config)
    model.pooler = None
    model.save_pretrained(folder)
    processor(transformers.ViTImageProcessor, folder, 16)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A dual encoder of 8 numbers."""
    needs("transformers")
    import transformers

    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {**small, "vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": WORDS.index("[SEP]")}
    vision = {**small, "image_size": 16, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    quiet(transformers.CLIPModel, config).save_pretrained(folder)
    tokenizer(transformers, folder)
    processor(transformers.CLIPImageProcessor, folder, 16)
    return folder


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory):
    """A model of open_clip, of 8 numbers."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("open_clip")
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    return folder


@pytest.fixture(scope="session")
def given_features():
    """The directory of features of Flickr8k that came from elsewhere."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("GAPTUNE_TEST_DATA", beside)) / "features"
    if not folder.exists():
        pytest.skip("there is no directory features; GAPTUNE_TEST_DATA names the directory that contains it")
    return folder


def tokenizer(transformers, folder):
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)


def processor(cls, folder, side):
    size = {"height": side, "width": side}
    cls(size=size, crop_size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
