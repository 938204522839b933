"""A trained model as a folder that plain open_clip loads."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import torch

from gaptune.config import HEADS, TrialConfig
from gaptune.data import Store
from gaptune.data.pixels import INTERPOLATION, RESIZE_MODE
from gaptune.errors import UserError
from gaptune.trial.build_model import make_model
from gaptune.trial.model import ClipModel

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "open_clip_config.json", "open_clip_model.safetensors", "README.md"


def export_model(
    config: TrialConfig, store: Store, state: dict[str, Any], *, beta: float, card: str, out: Path
) -> None:
    """Writes a folder for ``open_clip.create_model_and_transforms("local-dir:OUT")``.

    A compact vocabulary is spread over CLIP's 49,408 rows: a token that training never saw gets the row of unknown
    tokens, as in training. The temperature goes into ``logit_scale``, however it was parameterized or scheduled.

    Args:
        config: Configuration of the trial.
        store: Training data.
        state: Checkpoint of the trial, as ``Checkpoints.load`` returns it.
        beta: The logit scale at the end.
        card: Text of the model card.
        out: The folder to make.

    Raises:
        UserError: ``out`` exists, the model is of heads on stored features, or the
            checkpoint does not hold it.
    """
    from safetensors.torch import save_file

    if config.model.name == HEADS:
        raise UserError("heads on stored features are no model of open_clip: there are no towers to export")
    if out.exists():
        raise UserError(f"{out} exists; remove it or give another --out")
    try:
        model = make_model(config.model, store.meta, state=state)
        model.tower.load_state_dict(state["model"])
    except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"the checkpoint does not hold the model of its trial: {why}") from None
    assert isinstance(model, ClipModel)  # heads are refused above
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in model.tower.state_dict().items()}
    weights["token_embedding.weight"] = weights["token_embedding.weight"][model.token_rows].contiguous()
    weights["logit_scale"] = torch.tensor(math.log(beta))
    content = {
        "model_cfg": model.architecture.to_dict()["model_cfg"],
        "preprocess_cfg": {
            "mean": list(model.mean),
            "std": list(model.std),
            "interpolation": INTERPOLATION,
            "resize_mode": RESIZE_MODE,
        },
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as name:  # renamed when it is whole
        partial = Path(name) / out.name
        partial.mkdir()
        save_file(weights, partial / WEIGHTS_FILE)
        (partial / CONFIG_FILE).write_text(json.dumps(content, indent=2), encoding="utf-8")
        (partial / CARD_FILE).write_text(card, encoding="utf-8")
        partial.rename(out)
