"""What belongs to weights is used or refused: from a folder, a tag, a checkpoint or a bare file."""

import copy
import dataclasses
import json
import shutil

import numpy as np
import open_clip
import open_clip.pretrained
import pytest
import torch
from model_features import features_of
from open_clip.model import CLIP
from safetensors.torch import save_file
from support import OBJECTIVES

from gaptune.config import DataConfig, ModelConfig, TrialConfig
from gaptune.config.models import PRESETS
from gaptune.data.tokens import tokenize
from gaptune.engine.preflight import check_trial
from gaptune.errors import UserError
from gaptune.trial import train
from gaptune.trial.build_model import make_model
from gaptune.trial.checkpoint import Checkpoints, read_checkpoint
from gaptune.trial.export import export_model
from gaptune.trial.loop import trained_model
from gaptune.trial.pretrained import read_weights, weights_hash

HALF = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
TEXTS = ["a red circle", "two small blue squares on black", "a striped heart"]
ALT = "ViT-S-32-alt"  # of open_clip's models the smallest one that reads CLIP's tokens


def config_of(name="scenes-tiny", **changes):
    """open_clip's configuration of a small model, with some leaves changed by dotted name."""
    given = PRESETS[name] if name in PRESETS else open_clip.get_model_config(name)
    config = json.loads(json.dumps(given))
    config["text_cfg"]["context_length"] = 24
    if name == ALT:
        config["vision_cfg"]["image_size"] = 32
    for dotted, value in changes.items():
        group, _, leaf = dotted.rpartition("__")
        (config[group] if group else config)[leaf] = value
    return config


def open_clip_folder(folder, config, preprocess, weights="open_clip_model.safetensors"):
    """A folder as the hub has them, of weights large enough to reach where activations differ."""
    torch.manual_seed(0)
    model = CLIP(**{name: value for name, value in config.items() if name != "custom_text"})
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "mlp" in name:
                tensor.mul_(6.0)
    folder.mkdir(parents=True)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / weights) if weights.endswith("safetensors") else torch.save(state, folder / weights)
    content = {"model_cfg": config} | ({} if preprocess is None else {"preprocess_cfg": preprocess})
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def features(clip, images):
    tokens = torch.from_numpy(tokenize(TEXTS, 16).astype(np.int64))
    with torch.no_grad():
        return clip.eval().encode_image(images), clip.encode_text(tokens)


def open_clips_own(name, images, **more):
    """The same by open_clip itself: its model, its normalization, its tokens."""
    model, _, preprocess = open_clip.create_model_and_transforms(name, **more)
    normalize = preprocess.transforms[-1]
    tokens = open_clip.tokenize(TEXTS, context_length=model.context_length)
    with torch.no_grad():
        pixels = normalize(images.permute(0, 3, 1, 2).float() / 255)
        return model.eval().encode_image(pixels, normalize=True), model.encode_text(tokens, normalize=True)


def pictures(side):
    return torch.randint(0, 256, (3, side, side, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def wide(store):
    """The store, with all of CLIP's vocabulary, so that every token has a row of its own."""
    return dataclasses.replace(store.meta, vocabulary=tuple(range(1, 49_408)))


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A folder whose pixels are normalized by 0.5, with another activation."""
    return open_clip_folder(tmp_path_factory.mktemp("half") / "hub", config_of(quick_gelu=True), HALF)


FOLDERS = {
    "mean and std of 0.5": ({}, HALF),
    "ImageNet's": ({}, {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),
    "one number for all colors": ({}, {"mean": 0.4, "std": 0.2}),
    "a mean and no std": ({}, {"mean": [0.1, 0.2, 0.3], "std": None}),
    "nothing about pixels": ({}, None),
    "quick_gelu": ({"quick_gelu": True}, HALF),
    "more heads": ({"text_cfg__heads": 4}, None),
    "captions read from both sides": ({"text_cfg__no_causal_mask": True, "text_cfg__context_length": 16}, None),
    "larger images": ({"vision_cfg__image_size": 64}, HALF),
}


@pytest.mark.whole
@pytest.mark.parametrize(("name", "which"), [*(("scenes-tiny", which) for which in FOLDERS), (ALT, "quick_gelu")])
def test_folders_weights_compute_what_open_clip_computes(name, which, tmp_path, wide):
    changes, preprocess = FOLDERS[which]
    folder = open_clip_folder(tmp_path / "hub", config_of(name, **changes), preprocess)
    images = pictures(changes.get("vision_cfg__image_size", 32))
    wanted = open_clips_own(f"local-dir:{folder}", images)
    for place in (folder, folder / "open_clip_model.safetensors"):
        same(features(make_model(ModelConfig(name=name, pretrained=str(place)), wide), images), wanted)


@pytest.mark.parametrize("weights", ["open_clip_pytorch_model.bin", "model.safetensors", "anything.pt"])
def test_file_that_open_clip_would_take_is_taken(weights, tmp_path, wide):
    folder = open_clip_folder(tmp_path / "hub", config_of(), HALF, weights)
    clip = make_model(ModelConfig(pretrained=str(folder)), wide)
    assert clip.mean == (0.5, 0.5, 0.5)
    assert clip.remarks == []


def test_settings_of_weights_are_kept_from_loading_to_export(half, store, short, tmp_path):
    """Folder, training, checkpoint, evaluation, a training from that checkpoint, export: the folder gone meanwhile."""
    folder = shutil.copytree(half, tmp_path / "hub")
    config = short({"model.pretrained": str(folder), "training.epochs": 1})
    list(train(config, store, checkpoints=tmp_path / "t"))
    built = features_of(config.model, store, tmp_path / "f")
    images = torch.from_numpy(store.split("val").gather(np.arange(3)))
    start = features(make_model(config.model, store.meta), images)
    held = torch.from_numpy(built.split("val").gather(range(3))).view(torch.float16)
    torch.testing.assert_close(held, start[0].half(), atol=2e-3, rtol=0)
    shutil.rmtree(folder)

    state = read_checkpoint(tmp_path / "t")
    evaluated, _ = trained_model(state, "cpu")
    assert (evaluated.mean, evaluated.std) == ((0.5,) * 3, (0.5,) * 3)
    again = make_model(ModelConfig(pretrained=str(tmp_path / "t")), store.meta)
    assert again.mean == (0.5,) * 3
    same(features(again, images), features(evaluated, images))
    export_model(config, store, state, beta=10.0, card="", out=tmp_path / "e")
    same(features(evaluated, images), open_clips_own(f"local-dir:{tmp_path / 'e'}", images))
    assert json.loads((tmp_path / "e/open_clip_config.json").read_text())["model_cfg"]["quick_gelu"] is True
    from_export = make_model(ModelConfig(pretrained=str(tmp_path / "e")), store.meta)
    same(features(from_export, images), features(evaluated, images))


@pytest.mark.whole
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_tag_is_used_as_open_clip_specifies(quick_gelu, tmp_path, wide, monkeypatch):
    folder = open_clip_folder(
        tmp_path / "hub", config_of(ALT, vision_cfg__image_size=224, text_cfg__context_length=77), HALF
    )
    published = HALF | {"file": str(folder / "open_clip_model.safetensors"), "quick_gelu": quick_gelu}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, ALT, {"mine": published})
    images = pictures(224)
    model = ModelConfig(name=ALT, pretrained="mine")
    wanted = open_clips_own(ALT, images, pretrained="mine", force_quick_gelu=quick_gelu)
    clip = make_model(model, wide)
    same(features(clip, images), wanted)
    assert len(clip.remarks) == quick_gelu
    assert weights_hash(model) is None
    if not quick_gelu:  # a checkpoint of format 1 has the tag alone
        state = {"config": json.dumps({"model": model.model_dump(), "training": {"precision": "fp32"}}), "scale": {}}
        data = {name: getattr(wide, name) for name in ("name", "image_size", "context_length", "content_hash")}
        data |= {"vocabulary": wide.vocabulary, "features": 0}
        state |= {"data": data, "model": clip.tower.state_dict()}
        assert trained_model(state, "cpu")[0].mean == (0.5,) * 3


TINY = {name: PRESETS["scenes-tiny"][name] for name in ("embed_dim", "vision_cfg", "text_cfg")}
REFUSED = {
    "another activation": (
        "RN50",
        {"quick_gelu": True},
        "quick_gelu is true, not false; the model for it is RN50-quick",
    ),
    "no such activation": ("RN50-quickgelu", {"quick_gelu": False}, "the model for it is RN50$"),
    "another width": ("RN50", {"vision_cfg__width": 80}, r"do not fit RN50: vision_cfg\.width is 80, not 64$"),
    "another depth": (ALT, {"text_cfg__layers": 3}, r"do not fit ViT-S-32-alt: text_cfg\.layers is 3, not 10$"),
    "another model": ("photos-small", TINY, "the model for it is scenes-tiny"),
    "another tokenizer": (ALT, {"text_cfg__hf_tokenizer_name": "bert"}, "reads another tokenizer's tokens"),
    "a field that open_clip does not know": (ALT, {"vision_cfg__colour": 1}, "cannot be used: vision_cfg: .*colour"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_folder_of_another_model_is_refused_by_what_differs(which, tmp_path, store):
    name, changes, told = REFUSED[which]
    save_file({"logit_scale": torch.zeros(())}, tmp_path / "open_clip_model.safetensors")
    content = {"model_cfg": config_of(name, **changes), "preprocess_cfg": HALF}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=told) as refused:
        make_model(ModelConfig(name=name, pretrained=str(tmp_path)), store.meta)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be used: Expecting"),
        ("[1]", "it has no model_cfg"),
        ('{"preprocess_cfg": {}}', "it has no model_cfg"),
        ('{"model_cfg": {"vision_cfg": {}}}', "its model_cfg has no text_cfg"),
        (json.dumps({"model_cfg": config_of(), "preprocess_cfg": {"mean": [0.5, 0.5]}}), "the mean of its preprocess"),
        (json.dumps({"model_cfg": config_of(), "preprocess_cfg": {"std": [0.5, 0.5, "x"]}}), "the std of its preproc"),
        (json.dumps({"model_cfg": config_of(), "preprocess_cfg": {"std": [0.5, 0.5, 0]}}), "the std of its preprocess"),
        (json.dumps({"model_cfg": config_of(), "preprocess_cfg": {"mean": [float("nan")] * 3}}), "the mean of its pre"),
        (json.dumps({"model_cfg": config_of()}), "open_clip_config.json and no weights"),
    ],
)  # fmt: skip
def test_folder_with_missing_or_invalid_config_is_refused(content, told, tmp_path, store):
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(UserError, match=told):
        make_model(ModelConfig(pretrained=str(tmp_path)), store.meta)


def test_checkpoint_of_another_activation_is_refused_by_the_name_of_its_model(store, short, tmp_path, undisturbed):
    state = copy.deepcopy(undisturbed)
    config = json.loads(state["config"])
    state["architecture"]["model_cfg"] = config_of("RN50-quickgelu")
    state["config"] = json.dumps(config | {"model": config["model"] | {"name": "RN50-quickgelu"}})
    Checkpoints(tmp_path / "t").save(1, state)
    with pytest.raises(UserError, match="the model for it is RN50-quickgelu"):
        read_weights(ModelConfig(name="RN50", pretrained=str(tmp_path / "t")))


# --- what a bare file cannot say ---


@pytest.fixture(scope="module")
def undisturbed(store, short, tmp_path_factory):
    """The state after a training of one epoch."""
    folder = tmp_path_factory.mktemp("undisturbed")
    list(train(short({"training.epochs": 1}), store, checkpoints=folder))
    return read_checkpoint(folder)


def remarks(model, meta):
    with torch.device("meta"):
        return list(make_model(model, meta).remarks)


@pytest.mark.parametrize(("name", "other"), [("RN50", "RN50-quickgelu"), ("ViT-B-32-quickgelu", "ViT-B-32")])
def test_bare_file_that_could_be_two_models_is_named(name, other, tmp_path, store):
    with torch.device("meta"):
        shapes = open_clip.create_model(name, device="meta").state_dict()
    torch.save(shapes, tmp_path / "w.pt")
    (said,) = remarks(ModelConfig(name=name, pretrained=str(tmp_path / "w.pt")), store.meta)
    assert f"It is taken for {name}" in said
    assert f"CLIP's own mean and std. {other} has the same tensors" in said


def test_rows_of_tokens_in_a_bare_file_are_those_of_the_store_or_refused(tmp_path, store, undisturbed):
    torch.save(undisturbed["model"], tmp_path / "w.pt")
    model = ModelConfig(pretrained=str(tmp_path / "w.pt"))
    clip = make_model(model, store.meta)
    assert torch.equal(clip.tower.token_embedding.weight, undisturbed["model"]["token_embedding.weight"])
    assert any("vocabulary of" in said and "is taken for that of few-scenes" in said for said in clip.remarks)
    other = dataclasses.replace(store.meta, vocabulary=store.meta.vocabulary[1:])
    with pytest.raises(UserError, match="rows of tokens, and nothing says of which"):
        make_model(model, other)


def test_checkpoint_under_another_name_is_still_one(tmp_path, store, undisturbed):
    Checkpoints(tmp_path / "t").save(1, undisturbed)
    shutil.copy(tmp_path / "t/epoch-0001.pt", tmp_path / "best.ckpt")
    model = ModelConfig(pretrained=str(tmp_path / "best.ckpt"))
    assert make_model(model, store.meta).remarks == []
    assert weights_hash(model) == weights_hash(ModelConfig(pretrained=str(tmp_path / "t")))


def test_code_in_a_weights_file_is_not_run(tmp_path, store):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "run"), "w"))

    torch.save({"state_dict": {"x": Trap()}}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"no checkpoint that open_clip can read: Weights only load failed$"):
        make_model(ModelConfig(pretrained=str(tmp_path / "w.pt")), store.meta)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content", [b"", {}, [1], {"a": 3}, b"PK"], ids=["empty", "nothing", "a list", "no tensor", "cut"]
)
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "epoch-0001.pt"])
def test_file_without_weights_is_refused(name, content, store, tmp_path):
    torch.save(content, tmp_path / name)
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"no checkpoint that open_clip can read: \S|is no whole checkpoint$"):
        make_model(ModelConfig(pretrained=str(tmp_path / name)), store.meta)


# --- captions of another length, towers that never learn, images of another shape ---


@pytest.mark.whole
@pytest.mark.parametrize(("trained", "wanted"), [(24, 16), (24, 24), (24, 40)])
def test_positions_of_tokens_are_kept_whatever_the_context(trained, wanted, tmp_path, wide):
    folder = open_clip_folder(tmp_path / "hub", config_of(text_cfg__context_length=trained), None)
    model = ModelConfig(pretrained=str(folder))
    models = [make_model(model, dataclasses.replace(wide, context_length=n)).eval() for n in (trained, wanted)]
    positions = [clip.tower.positional_embedding for clip in models]
    least = min(trained, wanted)
    assert torch.equal(positions[0][:least], positions[1][:least])
    tokens = torch.from_numpy(tokenize(TEXTS, 12).astype(np.int64))
    with torch.no_grad():
        torch.testing.assert_close(models[0].encode_text(tokens), models[1].encode_text(tokens), atol=1e-6, rtol=0)
    said = [one for one in models[1].remarks if "positions from 25 on start at random" in one]
    assert len(said) == (wanted > trained)


@pytest.mark.whole
def test_model_of_open_clip_is_as_long_as_its_weights(tmp_path, wide):
    folder = open_clip_folder(tmp_path / "hub", config_of(ALT), None)
    model = ModelConfig(name=ALT, pretrained=str(folder))
    assert make_model(model, wide).context_length == 24
    longer = make_model(model, dataclasses.replace(wide, context_length=60))
    assert longer.context_length == 77
    assert any("knows captions of 24 tokens, few-scenes has up to 60" in said for said in longer.remarks)


@pytest.mark.parametrize("which", ["image", "text"])
def test_random_tower_that_is_frozen_is_reported_before_it_is_trained(which, store, tmp_path):
    config = TrialConfig(model=ModelConfig(freeze=which), data=DataConfig(store=str(store.path)))
    assert check_trial(config)[1].remarks == (
        f"model.freeze: the {which} tower has random weights and is never trained; give model.pretrained",
    )
    assert check_trial(TrialConfig(data=DataConfig(store=str(store.path))))[1].remarks == ()


def test_remark_reports_weights_trained_on_squashed_images(tmp_path, store):
    folder = open_clip_folder(tmp_path / "hub", config_of(), HALF | {"resize_mode": "squash"})
    (said,) = remarks(ModelConfig(pretrained=str(folder)), store.meta)
    assert "resize_mode: squash" in said
    trained_on = make_model(ModelConfig(pretrained=str(folder)), store.meta).architecture
    assert trained_on.to_dict()["preprocess_cfg"]["resize_mode"] == "shortest"  # as of then it sees what stores hold


def test_training_and_feature_extraction_print_the_remark(store, tmp_path, gaptune):
    described = {
        "data": {"store": str(store.path)},
        "model": {"freeze": "text"},
        "training": {"epochs": 1, "batch_size": 64},
        "objectives": OBJECTIVES,
    }
    sweep = tmp_path / "s.yaml"
    sweep.write_text(json.dumps(described))  # which is YAML, too
    _, _, errors = gaptune("train", "--config", sweep)
    assert "warning: model.freeze: the text tower has random weights" in errors
    hub = open_clip_folder(tmp_path / "hub", config_of(), HALF | {"resize_mode": "squash"})
    _, _, errors = gaptune(
        "data", "features", store.path, "--model", "scenes-tiny", "--pretrained", hub, "--out", tmp_path / "f"
    )
    assert "warning: model.pretrained: " in errors
    assert "resize_mode: squash" in errors


# --- identity: the content, not the path ---


def test_copy_of_the_weights_resumes_and_others_under_the_path_are_refused(half, store, short, tmp_path):
    place = shutil.copytree(half, tmp_path / "w")
    config = short({"model.pretrained": str(place), "training.epochs": 2})
    halfway = train(config, store, checkpoints=tmp_path / "t")
    next(halfway)
    halfway.close()

    moved = shutil.copytree(place, tmp_path / "copy")
    copied = short({"model.pretrained": str(moved), "training.epochs": 2})
    kept = shutil.copytree(tmp_path / "t", tmp_path / "again")
    assert [report.epoch for report in train(copied, store, checkpoints=kept)] == [1, 2]

    described = json.loads((place / "open_clip_config.json").read_text())
    other_pixels = described | {"preprocess_cfg": HALF | {"mean": [0.4] * 3}}
    other_tensors = {**read_weights(config.model).tensors, "text_projection": torch.zeros(64, 64)}
    for file, write in (
        ("open_clip_config.json", lambda path: path.write_text(json.dumps(other_pixels))),
        ("open_clip_model.safetensors", lambda path: save_file(other_tensors, path)),
    ):
        shutil.copytree(moved, place, dirs_exist_ok=True)
        write(place / file)
        with pytest.raises(UserError, match="another configuration or other data"):
            next(train(config, store, checkpoints=tmp_path / "t"))
    shutil.copytree(moved, place, dirs_exist_ok=True)
    assert [report.epoch for report in train(config, store, checkpoints=tmp_path / "t")] == [1, 2]
