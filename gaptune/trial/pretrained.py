"""Trained weights that a training starts from, with what belongs to them.

They are a checkpoint of gaptune, a folder with ``open_clip_config.json``, a bare file, or a tag of open_clip.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gaptune.config import ModelConfig
from gaptune.config.models import CLIP_VOCABULARY, PRESETS
from gaptune.data import StoreMeta
from gaptune.errors import UserError, did_you_mean
from gaptune.trial.architecture import (
    MEAN,
    STD,
    Architecture,
    architecture_named,
    architecture_of_state,
    architecture_of_tag,
    check_fits,
    model_of_state,
    twins,
)
from gaptune.trial.checkpoint import is_checkpoint, read_checkpoint
from gaptune.trial.model import ClipModel, token_rows

_CONFIG = "open_clip_config.json"
_FILES = (  # open_clip's order
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_TABLE, _POSITIONS = "token_embedding.weight", "positional_embedding"
_SCALES = ("logit_scale", "logit_bias")


@dataclass(frozen=True)
class Weights:
    """Trained weights with what belongs to them.

    Attributes:
        source: Where they are from, for messages.
        tensors: By open_clip's names.
        token_rows: Row of the token table for each of CLIP's token ids, shape (49408,).
        architecture: Architecture that they belong to; None for a file that holds nothing but tensors.
        of_tag: Whether open_clip publishes them.
    """

    source: str
    tensors: dict[str, Tensor]
    token_rows: Tensor
    architecture: Architecture | None
    of_tag: bool = False

    @property
    def context_length(self) -> int | None:
        """Tokens per caption that they were trained with; None where no tensor shows it."""
        positions = _of_text(self.tensors, _POSITIONS)
        return None if positions is None else len(positions)

    @property
    def table(self) -> Tensor | None:
        """The token table."""
        return _of_text(self.tensors, _TABLE)

    def content_hash(self, name: str) -> str:
        """SHA-256 in hex of tensors, token rows, and what sets them apart from a model.

        Args:
            name: The model that starts from them.
        """
        digest = hashlib.sha256(self.token_rows.numpy().tobytes())
        for key in sorted(self.tensors):
            tensor = self.tensors[key]
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        if self.architecture is not None:
            own = self.architecture
            apart = [*check_fits(name, own, self.source)]
            if (own.mean, own.std) != (MEAN, STD):
                apart += [f"mean {own.mean}", f"std {own.std}"]
            if apart:
                digest.update(json.dumps(apart).encode())
        return digest.hexdigest()


def check_pretrained(model: ModelConfig) -> None:
    """Ensures that a model's weights are available; those of a tag are downloaded, once per machine.

    Raises:
        UserError: There is no such file or tag, it cannot be fetched, or the model is no CLIP.
    """
    if model.pretrained is not None and not Path(model.pretrained).exists():
        _fetch(model.name, model.pretrained)


def read_weights(model: ModelConfig, *, shapes_only: bool = False) -> Weights | None:
    """The weights that a model starts from.

    Args:
        model: The model.
        shapes_only: Whether tensors on torch's device "meta" are enough.

    Returns:
        None where it starts at random.

    Raises:
        UserError: They cannot be had, or belong to another architecture.
    """
    if model.pretrained is None:
        return None
    place = Path(model.pretrained)
    if not place.exists():
        fetched, architecture = _fetch(model.name, model.pretrained)
        found = _of_file(fetched, shapes_only, architecture)
        weights = replace(found, source=f"the tag {model.pretrained}", of_tag=True)
    elif place.is_dir():
        weights = _of_folder(place, shapes_only)
    elif is_checkpoint(place):
        weights = _of_checkpoint(place, shapes_only)
    else:
        weights = _of_file(place, shapes_only, _config_in(place.parent) if place.name in _FILES else None)
    if weights.architecture is not None:
        check_fits(model.name, weights.architecture, weights.source)
    return weights


def weights_hash(model: ModelConfig) -> str | None:
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
    weights = read_weights(model)
    return None if weights is None else weights.content_hash(model.name)


def architecture_for(model: ModelConfig, weights: Weights | None, data: StoreMeta) -> Architecture:
    """The architecture in which a model is built: that of its weights, where they say it.

    Args:
        model: The model.
        weights: Initial weights, if any.
        data: Description of the store. Presets are as long as these; any other model is as long as its
            weights, unless captions are longer.
    """
    named = architecture_named(model.name)
    if weights is None:
        return named
    own = weights.context_length
    context = own if own is not None and own >= data.context_length else named.config["text_cfg"].get("context_length")
    return (weights.architecture or named).sized(context_length=context)


def load_pretrained(clip: ClipModel, weights: Weights, data: StoreMeta) -> None:
    """Fills a model with weights.

    Rows of the token table are matched by token, whatever the vocabularies; a token that the weights do not know keeps
    its random row. Positions of tokens are kept as they are: a longer context has random ones behind them. Those of
    image patches are interpolated to another image size as open_clip does it. The logit scale is left out: a trial's
    temperature is a parameter.

    Args:
        clip: The model, freshly built; on torch's device "meta" only names and shapes are held against it.
        weights: Initial weights.
        data: Description of the store.

    Raises:
        UserError: They do not fit.
    """
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed

    own = clip.tower.state_dict()
    tensors = dict(weights.tensors)
    if _POSITIONS in tensors and _POSITIONS not in own:
        tensors = convert_to_custom_text_state_dict(tensors)
    for name in _SCALES:
        tensors.pop(name, None)
        if name in own:
            tensors[name] = own[name]
    for prefix in ("", "text."):
        table, positions = prefix + _TABLE, prefix + _POSITIONS
        if table in tensors and table in own and tensors[table].shape[1:] == own[table].shape[1:]:
            tensors[table] = _matched(own[table], clip.token_rows, tensors[table], _rows(weights, data))
        if positions in tensors and positions in own and tensors[positions].shape[1:] == own[positions].shape[1:]:
            kept = tensors[positions][: len(own[positions])]
            tensors[positions] = torch.cat([kept, own[positions][len(kept) :].to(kept)])
    try:
        resize_pos_embed(tensors, clip.tower)
        clip.tower.load_state_dict(tensors)
    except (RuntimeError, AssertionError, AttributeError, TypeError) as error:
        what = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = " ".join(what[1:2] or what)
        told = told if len(told) <= 200 else f"{told[:200]}…"
        raise UserError(f"the weights of {weights.source} do not fit {clip.name}: {told}") from None


def remarks(model: ModelConfig, weights: Weights | None, data: StoreMeta) -> list[str]:
    """What a person should know before a model is trained: where its start is not what one might think.

    Args:
        model: The model.
        weights: Initial weights, if any.
        data: Description of the store.

    Returns:
        A sentence each.
    """
    if weights is None:
        frozen = (
            f"model.freeze: the {model.freeze} tower has random weights and is never trained; give model.pretrained"
        )
        return [frozen] if model.freeze else []
    said = []
    known, longest = weights.architecture, weights.context_length
    if known is None:
        others = twins(model.name)
        also = f" {', '.join(others)} {'have' if len(others) > 1 else 'has'} the same tensors." if others else ""
        said.append(
            f"model.pretrained: {weights.source} holds tensors only. It is taken for {model.name}, trained on pixels "
            f"with CLIP's own mean and std.{also} {_CONFIG} beside the weights, in a folder, says what they are"
        )
        if weights.table is not None and len(weights.table) != CLIP_VOCABULARY:
            said.append(f"model.pretrained: the vocabulary of {weights.source} is taken for that of {data.name}")
    else:
        said += [
            f"model.pretrained: in {weights.source}, {each} as in {model.name}; that value is used"
            for each in check_fits(model.name, known, weights.source)
        ]
        if known.resize_mode != "shortest":
            said.append(
                f"model.pretrained: {weights.source} was trained on whole images (resize_mode: {known.resize_mode}); "
                "stores hold their middle"
            )
    if longest is not None and data.context_length > longest:
        never = " and stay so" if model.freeze == "text" else ""
        said.append(
            f"model.pretrained: {weights.source} knows captions of {longest} tokens, {data.name} has up to "
            f"{data.context_length}: positions from {longest + 1} on start at random{never}"
        )
    return said


def _rows(weights: Weights, data: StoreMeta) -> Tensor:
    """Rows by token; a bare file with few rows is taken to have the vocabulary of the data, if it has as many."""
    assert weights.table is not None
    count = len(weights.table)
    if weights.architecture is not None or count == CLIP_VOCABULARY:
        return weights.token_rows
    if count != len(data.vocabulary) + 1:
        raise UserError(
            f"model.pretrained: {weights.source} has {count:,} rows of tokens, and nothing says of which; "
            f"CLIP's table has {CLIP_VOCABULARY:,}, that of {data.name} {len(data.vocabulary) + 1:,}"
        )
    return token_rows(data.vocabulary)


def _matched(own: Tensor, own_rows: Tensor, theirs: Tensor, their_rows: Tensor) -> Tensor:
    """Their table in the order of one's own rows."""
    if own.is_meta:
        return own
    table = own.clone()
    table[0] = theirs[0]  # padding, and unknown tokens of a compact vocabulary
    known = (own_rows > 0) & (their_rows > 0) & (their_rows < len(theirs))
    table[own_rows[known]] = theirs[their_rows[known]].to(table.dtype)
    return table


def _of_text(tensors: dict[str, Tensor], name: str) -> Tensor | None:
    """A tensor of the text tower, which some of open_clip's models hold under a name of its own."""
    return tensors.get(name, tensors.get(f"text.{name}"))


def _all_rows() -> Tensor:
    return torch.arange(CLIP_VOCABULARY, device="cpu")


def _of_checkpoint(place: Path, shapes_only: bool) -> Weights:
    try:
        state = read_checkpoint(place)
        device, vocabulary = "meta" if shapes_only else "cpu", state["data"]["vocabulary"]
        tensors = {name: tensor.to(device) for name, tensor in state["model"].items()}
        table = _of_text(tensors, _TABLE)
        compact = table is not None and len(table) == len(vocabulary) + 1
        with torch.device("cpu"):
            rows = token_rows(vocabulary) if compact else _all_rows()
        return Weights(str(place), tensors, rows, architecture_of_state(state, model_of_state(state)))
    except UserError:
        raise
    except Exception as error:  # of pickle or of what it holds, in a file that is whole and something else
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{place} does not hold the model that it names: {what}") from None


def _of_folder(place: Path, shapes_only: bool) -> Weights:
    config = _config_in(place)
    found = [place / name for name in _FILES if (place / name).exists()]
    if config is not None and not found:  # open_clip takes any name then
        found = sorted(path for path in place.iterdir() if path.suffix in (".safetensors", ".bin", ".pth", ".pt"))
        if len(found) != 1:
            there = f"several files that may be its weights: {', '.join(path.name for path in found)}"
            raise UserError(f"{place} has {_CONFIG} and {there if found else 'no weights'}; expected {_FILES[0]}")
    if not found:
        return _of_checkpoint(place, shapes_only)
    return _of_file(found[0], shapes_only, config)


def _config_in(folder: Path) -> Architecture | None:
    path = folder / _CONFIG
    if not path.exists():
        return None
    try:
        return Architecture.from_dict(json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be used: {error}") from None


def _of_file(place: Path, shapes_only: bool, architecture: Architecture | None) -> Weights:
    import open_clip.factory

    try:
        if shapes_only and place.suffix == ".safetensors":
            tensors = _shapes(place)
        else:
            device = "meta" if shapes_only else "cpu"
            tensors = dict(open_clip.factory.load_state_dict(str(place), device=device, weights_only=True))
        if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            raise ValueError("it does not hold tensors by name")
    except Exception as error:  # of pickle, zip or safetensors: whatever a file that is no checkpoint leads to
        what = (str(error).splitlines() or ["it holds nothing"])[0].partition(". ")[0]  # torch advises to run its code
        raise UserError(f"{place} is no checkpoint that open_clip can read: {what}") from None
    return Weights(str(place), tensors, _all_rows(), architecture)


def _shapes(place: Path) -> dict[str, Tensor]:
    """What a file of safetensors says of its tensors."""
    from safetensors import safe_open

    with safe_open(place, "pt") as file:
        return {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118


def _fetch(name: str, tag: str) -> tuple[Path, Architecture]:
    import open_clip.pretrained as known

    if name in PRESETS:
        raise UserError(f"model.pretrained: there is no file {tag}, and {name} has no published weights")
    architecture = architecture_of_tag(name, tag)
    if architecture is None:
        tags = known.list_pretrained_tags_by_model(name)
        raise UserError(
            f"model.pretrained: {tag!r} is neither a file nor a tag of {name}{did_you_mean(tag, tags)}; "
            f"tags: {', '.join(tags) or 'none'}"
        )
    check_fits(name, architecture, f"the tag {tag}")
    try:
        return Path(known.download_pretrained(known.get_pretrained_cfg(name, tag))), architecture
    except Exception as error:  # hub, HTTP or disk: each raises its own
        raise UserError(
            f"the weights {tag} of {name} cannot be fetched ({type(error).__name__}); fetch them on a machine with a "
            f"network and give the file as model.pretrained, in a folder with its {_CONFIG}"
        ) from None
