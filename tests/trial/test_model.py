"""The models that are trained: presets, open_clip's by name, and what goes into them."""

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gaptune.config import ModelConfig
from gaptune.config.models import HEADS, PRESETS, check_model, known_models
from gaptune.data import StoreMeta
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError
from gaptune.trial.model import ClipModel, _cut

TEXTS = ["a red circle", "two small blue squares on black", "a striped heart", "a"]
TOKENS = torch.from_numpy(tokenize(TEXTS, 12).astype(np.int64))


def data(context_length=12, image_size=32):
    return StoreMeta(
        name="d",
        image_size=image_size,
        context_length=context_length,
        content_hash="0",
        splits={},
        vocabulary=tuple(sorted(set(TOKENS.unique().tolist()) - {0})),
    )


def clip(name="scenes-tiny", seed=0, **params):
    torch.manual_seed(seed)
    return ClipModel(ModelConfig(name=name, **params), data()).eval()


MODEL = clip()


def stored_images(n=3, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, side, side, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_and_give_features_of_length_one(name):
    model = clip(name)
    with torch.no_grad():
        images = model.encode_image(stored_images(side=model.image_size))
        texts = model.encode_text(TOKENS)
    assert images.shape[1] == texts.shape[1] == PRESETS[name]["embed_dim"]
    for features in (images, texts):
        torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    assert model.image_size == PRESETS[name]["vision_cfg"]["image_size"]


def test_smallest_preset_has_its_documented_size():
    assert sum(parameter.numel() for parameter in clip().parameters()) == pytest.approx(0.8e6, rel=0.03)


def test_pixels_are_normalized_as_clips_preprocessing_does_it():
    transform = open_clip.image_transform(32, is_train=False)
    images = stored_images()
    expected = torch.stack([transform(Image.fromarray(image.numpy())) for image in images])
    torch.testing.assert_close(clip().image_inputs(images), expected)


def test_towers_own_logit_scale_is_frozen():
    assert not clip().tower.logit_scale.requires_grad


@pytest.mark.parametrize("name", PRESETS)
def test_compact_vocabulary_gives_the_features_of_the_full_one(name):
    compact, full = clip(name, vocabulary="compact"), clip(name, vocabulary="full")
    assert compact.tower.token_embedding.num_embeddings == len(data().vocabulary) + 1
    assert full.tower.token_embedding.num_embeddings == 49_408
    rows = full.tower.token_embedding.weight.data
    state = dict(full.tower.state_dict())
    state["token_embedding.weight"] = torch.cat([rows[:1], rows[list(data().vocabulary)]])
    compact.tower.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(compact.encode_text(TOKENS), full.encode_text(TOKENS))


def test_presets_have_a_compact_vocabulary_by_default():
    assert clip().tower.token_embedding.num_embeddings == len(data().vocabulary) + 1


@given(st.lists(st.sampled_from(["a", "red", "circle", "unheard", "zebra"]), min_size=1, max_size=14))
def test_text_tower_reads_at_the_end_token_whatever_the_words(words):
    tokens = torch.from_numpy(tokenize([" ".join(words)], 12).astype(np.int64))
    ids = MODEL.token_rows[tokens]
    assert int(ids.argmax()) == int((tokens == 49_407).nonzero()[0, 1])


def test_words_that_the_training_captions_do_not_use_are_all_alike():
    zebra, unheard = (torch.from_numpy(tokenize([f"a {word}"], 12).astype(np.int64)) for word in ("zebra", "giraffe"))
    with torch.no_grad():
        assert torch.equal(MODEL.encode_text(zebra), MODEL.encode_text(unheard))


@given(st.lists(st.text("ab ", max_size=40), min_size=1, max_size=5), st.integers(3, 30), st.integers(3, 30))
def test_tokens_are_cut_to_those_of_the_shorter_context(texts, long, short):
    tokens = torch.from_numpy(tokenize(texts, long).astype(np.int64))
    assert _cut(tokens, short).tolist() == tokenize(texts, min(long, short)).tolist()
    assert tokens.tolist() == tokenize(texts, long).tolist()


def test_padding_after_the_end_token_changes_nothing():
    with torch.no_grad():
        torch.testing.assert_close(MODEL.encode_text(TOKENS[3:, :3]), MODEL.encode_text(TOKENS[3:]))


def test_image_size_can_be_given_to_a_preset():
    model = clip(image_size=48)
    assert model.image_size == 48
    with torch.no_grad():
        assert model.encode_image(stored_images(side=48)).shape == (3, 64)


@pytest.mark.parametrize("seed", [0, 1])
def test_initial_weights_depend_only_on_torchs_seed(seed):
    weights = [clip(seed=seed).tower.state_dict() for _ in range(2)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    other = clip(seed=seed + 1).tower.state_dict()
    assert not torch.equal(weights[0]["text_projection"], other["text_projection"])


# --- names ---


def test_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown model 'scenes-tny'.*scenes-tiny"):
        check_model(ModelConfig(name="scenes-tny"))
    with pytest.raises(UserError, match="RN50"):
        ClipModel(ModelConfig(name="RN5O"), data())


def test_known_models_are_the_presets_and_open_clips():
    assert set(known_models()) == {*PRESETS, HEADS, *open_clip.list_models()}


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "roberta-ViT-B-32"])
def test_model_that_reads_another_tokenizers_tokens_is_refused(name):
    with pytest.raises(UserError, match="another tokenizer"):
        ClipModel(ModelConfig(name=name), data())


@pytest.mark.parametrize(("name", "size"), [("scenes-tiny", 16), ("scenes-tiny", 63), ("ViT-B-32", 16)])
def test_size_of_images_that_the_model_does_not_take_is_refused_in_one_line(name, size):
    with pytest.raises(UserError, match=f"{name} cannot be built for images of {size} pixels") as caught:
        ClipModel(ModelConfig(name=name, image_size=size), data())
    assert "\n" not in str(caught.value)


# --- open_clip's RN50 ---


@pytest.fixture(scope="module")
def rn50():
    return clip("RN50", image_size=64)


def test_rn50_builds_by_name_for_smaller_images(rn50):
    assert rn50.image_size == 64
    assert rn50.context_length == 77
    assert rn50.tower.token_embedding.num_embeddings == 49_408
    with torch.no_grad():
        images = rn50.encode_image(stored_images(2, side=64))
        texts = rn50.encode_text(TOKENS)
    assert images.shape[1] == texts.shape[1] == 1024
    torch.testing.assert_close(images.norm(dim=1), torch.ones(2))


def test_rn50_pads_short_captions_as_open_clip_does(rn50):
    with torch.no_grad():
        expected = rn50.tower.encode_text(open_clip.tokenize(TEXTS), normalize=True)
        torch.testing.assert_close(rn50.encode_text(TOKENS), expected)


def test_rn50_can_have_a_compact_vocabulary():
    model = clip("RN50", image_size=32, vocabulary="compact")
    assert model.tower.token_embedding.num_embeddings == len(data().vocabulary) + 1
    with torch.no_grad():
        assert model.encode_text(TOKENS).shape == (4, 1024)


def test_store_with_longer_captions_than_the_model_reads_is_refused():
    with pytest.raises(UserError, match=r"RN50 reads 77 tokens.*captions of 80.*--context 77"):
        ClipModel(ModelConfig(name="RN50", image_size=32), data(context_length=80))
