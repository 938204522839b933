"""What a CLIP computes beside the numbers in its tensors: its architecture, and how its pixels are normalized."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from gaptune.config import HEADS, ModelConfig, TrialConfig
from gaptune.config.models import CLIP_VOCABULARY, PRESETS, known_models
from gaptune.errors import UserError

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's own

_SIZES = ("vision_cfg.image_size", "text_cfg.context_length", "text_cfg.vocab_size")
_WITHOUT_EFFECT = (  # on what a model of trained weights computes
    "init_logit_scale",
    "init_logit_bias",
    "output_dict",
    "vision_cfg.output_tokens",
    "vision_cfg.timm_model_pretrained",
    "text_cfg.output_tokens",
    "text_cfg.hf_model_pretrained",
    "text_cfg.hf_tokenizer_name",
    "text_cfg.tokenizer_mode",
    "text_cfg.tokenizer_kwargs",
)
_WITHOUT_TRACE = (  # in the shapes of the tensors
    "quick_gelu",
    *(
        f"vision_cfg.{name}"
        for name in (
            "head_width",
            "patch_dropout",
            "pool_type",
            "final_ln_after_pool",
            "attn_pooler_heads",
            "act_kwargs",
            "norm_kwargs",
            "timm_drop",
            "timm_drop_path",
        )
    ),
    *(
        f"text_cfg.{name}"
        for name in (
            "heads",
            "pad_id",
            "eos_id",
            "no_causal_mask",
            "pool_type",
            "final_ln_after_pool",
            "act_kwargs",
            "norm_kwargs",
        )
    ),
)
_MOST_TOLD = 3


@dataclass(frozen=True)
class Architecture:
    """What ``open_clip_config.json`` says of a model.

    Attributes:
        config: open_clip's ``model_cfg``: embedding, activation, both towers, image size, context length.
        mean: Mean of the pixels that it was trained on, by color, from 0 to 1.
        std: Their standard deviation.
        resize_mode: How images became squares: ``shortest`` (the middle is cut out), ``squash`` or ``longest``.
    """

    config: dict[str, Any]
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    resize_mode: str = "shortest"

    def sized(self, image_size: int | None = None, context_length: int | None = None) -> Architecture:
        """The same for other images or captions; None leaves them as they are."""
        config = {**self.config, "vision_cfg": {**self.config["vision_cfg"]}, "text_cfg": {**self.config["text_cfg"]}}
        if image_size is not None:
            config["vision_cfg"]["image_size"] = image_size
        if context_length is not None:
            config["text_cfg"]["context_length"] = context_length
        return replace(self, config=config)

    def to_dict(self) -> dict[str, Any]:
        """Plain content, as ``open_clip_config.json`` has it."""
        preprocess = {"mean": list(self.mean), "std": list(self.std), "resize_mode": self.resize_mode}
        return {"model_cfg": json.loads(json.dumps(self.config)), "preprocess_cfg": preprocess}

    @classmethod
    def from_dict(cls, content: Any) -> Architecture:
        """Reads what ``to_dict`` gives, or the content of ``open_clip_config.json``; what is left out is open_clip's.

        Raises:
            ValueError: It is neither; with the reason.
        """
        config = content.get("model_cfg") if isinstance(content, dict) else None
        if not isinstance(config, dict):
            raise ValueError("it has no model_cfg")
        for name in ("vision_cfg", "text_cfg"):
            if not isinstance(config.get(name), dict):
                raise ValueError(f"its model_cfg has no {name}")
        _flat(config)
        preprocess = content.get("preprocess_cfg") or {}
        if not isinstance(preprocess, dict):
            raise ValueError("its preprocess_cfg is no mapping")
        mean, std = (_by_color(name, preprocess.get(name) or own) for name, own in (("mean", MEAN), ("std", STD)))
        if min(std) <= 0:
            raise ValueError(f"the std of its preprocess_cfg is {list(std)}")
        return cls(config, mean, std, str(preprocess.get("resize_mode") or "shortest"))


def architecture_named(name: str) -> Architecture:
    """What the name of a model says: the architecture, with CLIP's own normalization."""
    if name in PRESETS:
        given = PRESETS[name]
        return Architecture({**given, "text_cfg": {**given["text_cfg"], "vocab_size": CLIP_VOCABULARY}})
    import open_clip

    return Architecture(open_clip.get_model_config(name))


def architecture_of_tag(name: str, tag: str) -> Architecture | None:
    """What open_clip says of published weights; None if it has none by this tag."""
    import open_clip.pretrained

    known = open_clip.pretrained.get_pretrained_cfg(name, tag)
    if not known:
        return None
    config = architecture_named(name).config
    return Architecture.from_dict(
        {"model_cfg": {**config, "quick_gelu": bool(known.get("quick_gelu"))}, "preprocess_cfg": known}
    )


def architecture_of_state(state: dict[str, Any], model: ModelConfig) -> Architecture:
    """What a checkpoint says of its model.

    Args:
        state: The checkpoint.
        model: The configuration of its model, which is all that older ones hold. They were normalized as their tag
            says, and with CLIP's own mean and standard deviation in all other cases.

    Raises:
        ValueError: It does not hold what it should.
    """
    if state.get("architecture"):
        return Architecture.from_dict(state["architecture"])
    of_tag = None if model.pretrained is None else architecture_of_tag(model.name, model.pretrained)
    return (of_tag or architecture_named(model.name)).sized(image_size=model.image_size)


def model_of_state(state: dict[str, Any]) -> ModelConfig:
    """The configuration of a checkpoint's model.

    Raises:
        ValueError: There is none, or this gaptune does not know a field of the configuration.
    """
    config = json.loads(state["config"])
    unknown = config.keys() - {*TrialConfig.model_fields, "further"}
    unknown |= {f"model.{name}" for name in config["model"].keys() - ModelConfig.model_fields.keys()}
    if unknown:
        raise ValueError(f"this gaptune does not know {', '.join(sorted(unknown))} in its configuration")
    return ModelConfig.model_validate(config["model"])


def check_fits(name: str, known: Architecture, source: str) -> tuple[str, ...]:
    """Compares the architecture of weights with that of the model that they are for.

    Image size, context length and vocabulary may differ.

    Args:
        name: The model that is asked for.
        known: Architecture that belongs to the weights.
        source: Where they are from, for the message.

    Returns:
        What differs without another name: the same tensors, another function. It is for the weights to decide.

    Raises:
        UserError: It is the architecture of another model.
    """
    mine, theirs = _flat(architecture_named(name).config), _flat(known.config)
    differing = [key for key in {**mine, **theirs} if key not in _SIZES and mine.get(key) != theirs.get(key)]
    if not differing:
        return ()
    told = tuple(f"{key} is {json.dumps(theirs.get(key))}, not {json.dumps(mine.get(key))}" for key in differing)
    others = _known_as(theirs)
    if others or not set(differing) <= set(_WITHOUT_TRACE):
        more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
        advice = f"; the model for it is {others[0]}" if others else ""
        raise UserError(
            f"model.pretrained: the weights of {source} do not fit {name}: {', '.join(told[:_MOST_TOLD])}{more}{advice}"
        )
    return told


def twins(name: str) -> list[str]:
    """Known models for the same images that have the same tensors as a model and compute something else with them."""
    mine = _flat(architecture_named(name).config)
    found = []
    for other, theirs in _all_flat():
        differing = {key for key in mine if mine[key] != theirs.get(key)}
        if differing and mine.keys() == theirs.keys() and differing <= set(_WITHOUT_TRACE):
            found.append(other)
    return found


def _known_as(flat: dict[str, Any]) -> list[str]:
    """Names of a model, those of its own image size and context length first."""
    same = [
        (sum(flat.get(key) != theirs.get(key) for key in _SIZES), other)
        for other, theirs in _all_flat()
        if flat.keys() == theirs.keys() and all(flat[key] == theirs[key] for key in flat if key not in _SIZES)
    ]
    return [other for _, other in sorted(same)]


def _all_flat() -> Iterator[tuple[str, dict[str, Any]]]:
    """All known models that read CLIP's tokens."""
    for name in known_models():
        if name != HEADS:
            config = architecture_named(name).config
            if not other_tokenizer(config):
                yield name, _flat(config)


def other_tokenizer(config: dict[str, Any]) -> bool:
    """Whether a model reads the tokens of another tokenizer than CLIP's."""
    text = config["text_cfg"]
    vocabulary = text.get("vocab_size", CLIP_VOCABULARY)
    return "hf_tokenizer_name" in text or "hf_model_name" in text or vocabulary != CLIP_VOCABULARY


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration by dotted names, with open_clip's defaults and without what has no effect."""
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    flat: dict[str, Any] = {"quick_gelu": False, "custom_text": False}
    for name, value in config.items():
        if name in ("vision_cfg", "text_cfg"):
            try:
                whole = asdict((CLIPVisionCfg if name == "vision_cfg" else CLIPTextCfg)(**value))
            except TypeError as error:
                raise ValueError(f"{name}: {error}") from None
            flat |= {f"{name}.{leaf}": inner for leaf, inner in whole.items()}
        else:
            flat[name] = value
    return {name: json.loads(json.dumps(value)) for name, value in flat.items() if name not in _WITHOUT_EFFECT}


def _by_color(name: str, given: Any) -> tuple[float, ...]:
    values = given if isinstance(given, list | tuple) else [given] * 3
    if len(values) != 3 or not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        raise ValueError(f"the {name} of its preprocess_cfg is {given!r}")
    return tuple(float(value) for value in values)
