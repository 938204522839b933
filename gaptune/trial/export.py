"""A trained model as a folder for other tools: a CLIP for plain open_clip, heads for plain torch."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaptune.config import TrialConfig
from gaptune.data import Store
from gaptune.data.pixels import INTERPOLATION, RESIZE_MODE
from gaptune.errors import UserError
from gaptune.towers import TOWERS
from gaptune.trial.build_model import make_model
from gaptune.trial.encoder import DualEncoder
from gaptune.trial.heads import Heads
from gaptune.trial.model import ClipModel

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "open_clip_config.json", "open_clip_model.safetensors", "README.md"
HEADS_FILE, HEADS_WEIGHTS_FILE = "heads.json", "heads.safetensors"

_HEADS_FORMAT = 1


def export_model(
    config: TrialConfig, store: Store, state: dict[str, Any], *, beta: float, card: str, out: Path
) -> None:
    """Writes a folder for ``open_clip.create_model_and_transforms("local-dir:OUT")``, or of heads.

    A compact vocabulary is spread over CLIP's 49,408 rows: a token that training never saw gets the row of unknown
    tokens, as in training. The temperature goes into ``logit_scale``, however it was parameterized or scheduled.

    Heads are ``heads.safetensors``, and ``heads.json`` with all that is not in the weights. They take features as the
    towers give them: what the store did to these (``--normalize``, ``--center``) is part of the export.

    Args:
        config: Configuration of the trial.
        store: Training data.
        state: Checkpoint of the trial, as ``Checkpoints.load`` returns it.
        beta: The logit scale at the end.
        card: Text of the model card.
        out: The folder to make.

    Raises:
        UserError: ``out`` exists, or the checkpoint does not hold the model.
    """
    if out.exists():
        raise UserError(f"{out} exists; remove it or give another --out")
    try:
        model = make_model(config.model, store.meta, state=state)
        model.tower.load_state_dict(state["model"])
    except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"the checkpoint does not hold the model of its trial: {why}") from None
    if isinstance(model, Heads):
        weights = _head_weights(model, store)
        _write(out, {HEADS_FILE: _heads(config, model, store, beta)}, {HEADS_WEIGHTS_FILE: weights}, card)
    else:
        assert isinstance(model, ClipModel)
        _write(out, {CONFIG_FILE: _clip(model)}, {WEIGHTS_FILE: _clip_weights(model, beta)}, card)


def _clip(model: ClipModel) -> dict[str, Any]:
    """What open_clip builds the model from."""
    return {
        "model_cfg": model.architecture.to_dict()["model_cfg"],
        "preprocess_cfg": {
            "mean": list(model.mean),
            "std": list(model.std),
            "interpolation": INTERPOLATION,
            "resize_mode": RESIZE_MODE,
        },
    }


def _clip_weights(model: ClipModel, beta: float) -> dict[str, Tensor]:
    weights = _weights(model)
    weights["token_embedding.weight"] = weights["token_embedding.weight"][model.token_rows].contiguous()
    weights["logit_scale"] = torch.tensor(math.log(beta))
    return weights


def _heads(config: TrialConfig, model: Heads, store: Store, beta: float) -> dict[str, Any]:
    """What is not in the weights of heads: which layers they are, and which features they take."""
    source, given = store.meta.source, config.model
    towers = {name: source.get(f"{name}_tower") for name in ("image", "text")}
    widths = {"image": model.features.image, "text": model.features.text}
    opened = [name for name, tower in towers.items() if tower and tower["tower"].partition(":")[0] in TOWERS]
    if not source.get("image_size"):  # not in stores of early versions: images would be resized in another way
        opened = [name for name in opened if name != "image"]
    return {
        "format": _HEADS_FORMAT,
        "head": given.head,
        "width": given.width,
        "bias": given.bias,
        "normalize": given.normalize,
        "treatment": {"normalize": bool(source.get("normalize")), "center": bool(source.get("center"))},
        "logit_scale": beta,
        "temperature": 1.0 / beta,
        "inputs": [*(f"{name}_features" for name in widths), *opened],
        "features": {name: {"width": widths[name], "tower": towers[name]} for name in widths},
        "store": {
            "name": store.meta.name,
            "content_hash": store.meta.content_hash,
            "dtype": model.features.dtype,
            "image_size": source.get("image_size"),
            "files": source.get("files"),
        },
    }


def _head_weights(model: Heads, store: Store) -> dict[str, Tensor]:
    """The layers ``linear``, ``hidden`` and ``output`` of each modality, and its mean where it is subtracted first."""
    weights = {}
    for name, tensor in _weights(model).items():
        modality, *layers, kind = name.split(".")
        weights[f"{modality}.{layers[-1] if layers else 'linear'}.{kind}"] = tensor
    means = store.meta.source.get("center") or {}
    return weights | {f"{modality}.mean": torch.tensor(mean) for modality, mean in means.items()}


def _weights(model: DualEncoder) -> dict[str, Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in model.tower.state_dict().items()}


def _write(out: Path, texts: dict[str, dict[str, Any]], tensors: dict[str, dict[str, Tensor]], card: str) -> None:
    """Makes the folder, under its name only when it is whole."""
    from safetensors.torch import save_file

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as name:
        partial = Path(name) / out.name
        partial.mkdir()
        (partial / CARD_FILE).write_text(card, encoding="utf-8")
        for file, content in texts.items():
            (partial / file).write_text(json.dumps(content, indent=2), encoding="utf-8")
        for file, weights in tensors.items():
            save_file(weights, partial / file)
            shutil.copymode(partial / CARD_FILE, partial / file)  # safetensors makes files that only their owner reads
        partial.rename(out)
