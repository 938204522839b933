"""Trained weights that a training starts from: a checkpoint of gaptune, an open_clip file, or an open_clip tag."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from gaptune.config import Model
from gaptune.errors import UserError, did_you_mean
from gaptune.models import CLIP_VOCABULARY, HEADS, PRESETS
from gaptune.trial.checkpoint import read_checkpoint
from gaptune.trial.model import Clip, token_rows

_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_TABLE = "token_embedding.weight"


def check_pretrained(model: Model) -> None:
    """Makes sure that a model's weights are at hand; those of a tag are fetched, once per machine.

    Raises:
        UserError: There is no such file or tag, it cannot be fetched, or the model is no CLIP.
    """
    if model.name == HEADS and (model.pretrained or model.freeze):
        raise UserError(f"{HEADS} starts at random and freezes nothing; give the towers to `gaptune data features`")
    if model.pretrained is not None and not Path(model.pretrained).exists():
        _fetch(model.name, model.pretrained)


def load_pretrained(clip: Clip, model: Model) -> None:
    """Fills a model with the weights that its configuration names.

    Rows of the token table are matched by token, whatever the vocabularies; a token that the weights do not know keeps
    its random row. Position embeddings are interpolated to another image size or context as open_clip does it. The
    logit scale is left out: a trial's temperature is a knob.

    Args:
        clip: The model, freshly built; on torch's device "meta" only names and shapes are held against it.
        model: Its configuration; nothing happens without ``pretrained``.

    Raises:
        UserError: The weights cannot be had or do not fit.
    """
    if model.pretrained is None:
        return
    from open_clip.model import resize_pos_embed, resize_text_pos_embed

    shapes_only = next(clip.tower.parameters()).is_meta
    weights, rows = _read(model, shapes_only)
    table = next((name for name in (_TABLE, f"text.{_TABLE}") if name in weights), None)
    own = clip.tower.state_dict()
    if table is not None and table in own and weights[table].shape[1:] == own[table].shape[1:]:
        matched = None if shapes_only else _matched(own[table], clip.token_rows, weights[table], rows)
        weights[table] = own[table] if matched is None else matched
    if "logit_scale" in own:
        weights["logit_scale"] = own["logit_scale"]
    try:
        resize_pos_embed(weights, clip.tower)
        resize_text_pos_embed(weights, clip.tower)
        clip.tower.load_state_dict(weights)
    except (RuntimeError, AssertionError, AttributeError, TypeError) as fault:
        what = [line.strip() for line in str(fault).splitlines() if line.strip()]
        told = " ".join(what[1:2] or what)
        told = told if len(told) <= 200 else f"{told[:200]}…"
        raise UserError(f"the weights of {model.pretrained} do not fit {model.name}: {told}") from None


def weights_hash(model: Model) -> str | None:
    """SHA-256 in hex of the weights that a model starts from, whatever kind of file they are in.

    Args:
        model: The model.

    Returns:
        None for random weights, and for those of a tag, which its name stands for.

    Raises:
        UserError: The file cannot be read.
    """
    if model.pretrained is None or not Path(model.pretrained).exists():
        return None
    weights, rows = _read(model)
    digest = hashlib.sha256(rows.numpy().tobytes())
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(model: Model, shapes_only: bool = False) -> tuple[dict[str, Tensor], Tensor]:
    """Weights by name, and their row of the token table for each of CLIP's token ids."""
    import open_clip.factory

    assert model.pretrained is not None
    place, full = Path(model.pretrained), torch.arange(CLIP_VOCABULARY)
    if place.is_dir():
        exported = next((place / name for name in _FILES if (place / name).exists()), None)
        if exported is None:
            return _of_checkpoint(place, full)
        place = exported
    elif not place.exists():
        place = _fetch(model.name, model.pretrained)
    elif place.suffix == ".pt" and place.name.startswith("epoch-"):
        return _of_checkpoint(place, full)
    try:
        if shapes_only and place.suffix == ".safetensors":
            return _shapes(place), full
        device = "meta" if shapes_only else "cpu"
        weights = dict(open_clip.factory.load_state_dict(str(place), device=device, weights_only=True))
        if not all(isinstance(tensor, Tensor) for tensor in weights.values()):
            raise ValueError("it does not hold tensors by name")
        return weights, full
    except Exception as fault:  # of pickle, zip or safetensors: whatever a file that is no checkpoint leads to
        raise UserError(f"{place} is no checkpoint that open_clip can read: {str(fault).splitlines()[0]}") from None


def _shapes(place: Path) -> dict[str, Tensor]:
    """What a file of safetensors says of its tensors."""
    from safetensors import safe_open

    with safe_open(place, "pt") as file:
        return {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118


def _of_checkpoint(place: Path, full: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    try:
        state = read_checkpoint(place)
        weights, vocabulary = dict(state["model"]), state["data"]["vocabulary"]
        compact = _TABLE in weights and len(weights[_TABLE]) == len(vocabulary) + 1
        return weights, token_rows(vocabulary) if compact else full
    except UserError:
        raise
    except Exception as fault:  # of pickle or of what it holds, in a file that is whole and something else
        raise UserError(f"{place} is no checkpoint of a training ({type(fault).__name__})") from None


def _matched(own: Tensor, own_rows: Tensor, theirs: Tensor, their_rows: Tensor) -> Tensor:
    """Their table in the order of one's own rows."""
    table = own.clone()
    table[0] = theirs[0]  # padding, and unknown tokens of a compact vocabulary
    known = (own_rows > 0) & (their_rows > 0) & (their_rows < len(theirs))
    table[own_rows[known]] = theirs[their_rows[known]]
    return table


def _fetch(name: str, tag: str) -> Path:
    import open_clip.pretrained as known

    if name in PRESETS:
        raise UserError(f"model.pretrained: there is no file {tag}, and {name} has no published weights")
    tags = known.list_pretrained_tags_by_model(name)
    config = known.get_pretrained_cfg(name, tag)
    if not config:
        raise UserError(
            f"model.pretrained: {tag!r} is neither a file nor a tag of {name}{did_you_mean(tag, tags)}; "
            f"tags: {', '.join(tags) or 'none'}"
        )
    import open_clip

    if bool(config.get("quick_gelu")) != bool(open_clip.get_model_config(name).get("quick_gelu")):
        other = name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else f"{name}-quickgelu"
        raise UserError(f"model.pretrained: {tag} was trained with another activation; the model for it is {other}")
    try:
        return Path(known.download_pretrained(config))
    except Exception as fault:  # hub, HTTP or disk: each raises its own
        raise UserError(
            f"the weights {tag} of {name} cannot be fetched ({type(fault).__name__}); fetch them on a machine with a "
            "network and give the file as model.pretrained"
        ) from None
