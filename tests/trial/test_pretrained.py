"""Trainings that start from trained weights, and towers that stay as they are."""

import dataclasses

import open_clip
import pytest
import torch
from model_features import features_of
from safetensors.torch import save_file

from gaptune.config import ModelConfig, TrialConfig
from gaptune.errors import UserError
from gaptune.trial import train
from gaptune.trial.build_model import make_model
from gaptune.trial.checkpoint import Checkpoints
from gaptune.trial.export import export_model
from gaptune.trial.loop import trained_model
from gaptune.trial.pretrained import check_pretrained


@pytest.fixture(scope="module")
def trained(store, short, tmp_path_factory):
    """The folder of a trial's checkpoints, and the newest state in it."""
    folder = tmp_path_factory.mktemp("trained")
    list(train(short(), store, checkpoints=folder))
    return folder, Checkpoints(folder).load()


def weights_of(folder):
    return Checkpoints(folder).load()["model"]


def test_trials_checkpoint_is_where_another_one_starts(store, trained):
    folder, state = trained
    for place in (folder, folder / "epoch-0002.pt"):
        model = make_model(ModelConfig(pretrained=str(place)), store.meta)
        for name, tensor in model.tower.state_dict().items():
            torch.testing.assert_close(tensor, state["model"][name], rtol=0, atol=0)


def test_exported_folder_gives_the_same_embeddings_as_the_checkpoint(store, trained, tmp_path):
    folder, state = trained
    export_model(TrialConfig(), store, state, beta=10.0, card="", out=tmp_path / "exported")
    tokens = torch.from_numpy(store.split("val").texts[:20].astype("int64"))
    texts = [
        make_model(ModelConfig(pretrained=str(place), vocabulary=vocabulary), store.meta).eval().encode_text(tokens)
        for place, vocabulary in (
            (folder, "compact"),
            (folder, "full"),
            (tmp_path / "exported", "compact"),
            (tmp_path / "exported", "full"),
        )
    ]
    for other in texts[1:]:
        torch.testing.assert_close(other, texts[0], rtol=0, atol=0)


def test_rows_of_the_token_table_are_matched_by_token(store, trained):
    folder, state = trained
    kept = store.meta.vocabulary[::2]  # a store that knows every second word, and one word that the weights do not
    meta = dataclasses.replace(store.meta, vocabulary=tuple(sorted({*kept, 1234})))
    model = make_model(ModelConfig(pretrained=str(folder)), meta)
    table, theirs = model.tower.token_embedding.weight, state["model"]["token_embedding.weight"]
    for token in kept:
        row = 1 + store.meta.vocabulary.index(token)
        assert torch.equal(table[model.token_rows[token]], theirs[row])
    assert not (theirs == table[model.token_rows[1234]]).all(1).any()


@pytest.mark.whole
def test_position_embeddings_are_interpolated_to_another_image_size(store, tmp_path):
    name = "ViT-S-32-alt"
    big = open_clip.create_model(name, force_image_size=64)
    save_file({key: value.contiguous() for key, value in big.state_dict().items()}, tmp_path / "big.safetensors")
    model = make_model(ModelConfig(name=name, image_size=32, pretrained=str(tmp_path / "big.safetensors")), store.meta)
    assert torch.equal(model.tower.visual.proj, big.visual.proj)
    assert model.tower.visual.positional_embedding.shape[0] == 2


@pytest.mark.parametrize(("which", "other"), [("image", "text"), ("text", "image")])
def test_frozen_tower_is_unchanged_and_the_other_is_trained(store, short, trained, tmp_path, which, other):
    folder, state = trained
    list(train(short({"model.pretrained": str(folder), "model.freeze": which}), store, checkpoints=tmp_path / "new"))
    after = weights_of(tmp_path / "new")
    part = {"image": [n for n in after if n.startswith("visual.")]}
    part["text"] = [n for n in after if not n.startswith("visual.") and n not in ("logit_scale", "attn_mask")]
    assert all(torch.equal(after[name], state["model"][name]) for name in part[which])
    assert not all(torch.equal(after[name], state["model"][name]) for name in part[other])


def test_frozen_training_resumes_where_it_was_killed(store, short, trained, tmp_path):
    config = short({"model.pretrained": str(trained[0]), "model.freeze": "image"})
    list(train(config, store, checkpoints=tmp_path / "whole"))
    halfway = train(config, store, checkpoints=tmp_path / "cut")
    next(halfway)
    halfway.close()
    list(train(config, store, checkpoints=tmp_path / "cut"))
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_model_of_a_checkpoint_is_read_without_the_weights_that_it_started_from(store, short, trained, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "epoch-0002.pt").write_bytes((trained[0] / "epoch-0002.pt").read_bytes())
    list(train(short({"model.pretrained": str(moved)}), store, checkpoints=tmp_path / "new"))
    (moved / "epoch-0002.pt").unlink()
    model, _ = trained_model(Checkpoints(tmp_path / "new").load(), "cpu")
    assert torch.equal(model.tower.visual.conv1.weight, weights_of(tmp_path / "new")["visual.conv1.weight"])


def test_features_come_from_trained_towers(store, trained, tmp_path):
    model = ModelConfig(pretrained=str(trained[0]))
    made = features_of(model, store, tmp_path / "features")
    clip = make_model(ModelConfig(pretrained=str(trained[0])), store.meta).eval()
    with torch.no_grad():
        expected = clip.encode_image(torch.from_numpy(store.split("val").gather(range(3))))
    held = torch.from_numpy(made.split("val").gather(range(3))).view(torch.float16)
    torch.testing.assert_close(held, expected.half(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"name": "RN50", "pretrained": "opnai"}, "did you mean 'openai'"),
        ({"name": "RN50", "pretrained": "openai"}, "the model for it is RN50-quickgelu"),
        ({"name": "scenes-tiny", "pretrained": "nowhere.pt"}, "there is no file nowhere.pt"),
    ],
)
def test_missing_weights_are_reported_before_a_training_starts(model, told):
    with pytest.raises(UserError, match=told):
        check_pretrained(ModelConfig(**model))


def test_tag_that_cannot_be_downloaded_is_refused_with_advice(monkeypatch):
    def offline(config):
        raise ConnectionError("no network")

    monkeypatch.setattr("open_clip.pretrained.download_pretrained", offline)
    with pytest.raises(UserError, match=r"give the file as model\.pretrained"):
        check_pretrained(ModelConfig(name="RN50-quickgelu", pretrained="openai"))


def test_weights_of_another_model_are_refused(store, trained, tmp_path):
    with pytest.raises(UserError, match="do not fit photos-small"):
        make_model(ModelConfig(name="photos-small", image_size=32, pretrained=str(trained[0])), store.meta)
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(UserError, match="no checkpoint that open_clip can read"):
        make_model(ModelConfig(pretrained=str(tmp_path / "text.pt")), store.meta)
