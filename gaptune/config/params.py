"""Parameters: the leaves of a trial's configuration that a search space may vary.

A *parameter* is a leaf of ``TrialConfig`` outside ``NOT_PARAMETERS`` (``data`` …; of ``model`` only the leaves in
``MODEL_PARAMETERS``), addressed by its dotted path (``temperature.tau_end``). Later sources override
earlier ones: the defaults of the schema, the sweep config, the method (``gaptune.space.methods``), the params of the
candidate or of ``--set``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from gaptune.config.document import explain
from gaptune.config.trial import HEAD_DEFAULTS, HEADS, ModelConfig, TrialConfig
from gaptune.errors import UserError, did_you_mean

NOT_PARAMETERS = ("model", "data", "device", "evaluate")
"""Groups that a search space does not vary, but for ``MODEL_PARAMETERS``."""

MODEL_PARAMETERS = tuple(f"model.{leaf}" for leaf in ("head", "width", "dropout", "bias"))
"""Parameters of heads."""


def parameter_fields() -> dict[str, Any]:
    """Returns the pydantic field (type, bounds, default) of each parameter by dotted path."""
    fields: dict[str, Any] = {path: ModelConfig.model_fields[path.partition(".")[2]] for path in MODEL_PARAMETERS}
    for name, field in TrialConfig.model_fields.items():
        if name in NOT_PARAMETERS:
            continue
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            fields.update({f"{name}.{leaf}": inner for leaf, inner in field.annotation.model_fields.items()})
        else:
            fields[name] = field
    return fields


def with_params(config: TrialConfig, params: Mapping[str, Any]) -> TrialConfig:
    """Returns a copy of a configuration with some values replaced, and validates it as a whole.

    Args:
        config: Configuration with the other values.
        params: New values by dotted path (``model.…`` and ``data.…`` are accepted too).

    Raises:
        UserError: A path is unknown or a value is invalid.
    """
    tree = copy.deepcopy(config.model_dump())
    known = {
        *parameter_fields(),
        *(f"{group}.{leaf}" for group in ("model", "data") for leaf in tree[group]),
        *("device", "evaluate"),
    }
    for path, value in params.items():
        if path not in known:
            raise UserError(f"unknown parameter {path!r}{did_you_mean(path, known)}")
        group, _, leaf = path.rpartition(".")
        (tree[group] if group else tree)[leaf] = value
    if config.model.name == HEADS != tree["model"]["name"]:
        tree["model"] |= {leaf: params.get(f"model.{leaf}") for leaf in HEAD_DEFAULTS}
    try:
        return TrialConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, TrialConfig)[0]) from None


def flatten(config: BaseModel) -> dict[str, Any]:
    """Returns all leaves of a configuration by dotted path, in the order of the schema."""
    flat: dict[str, Any] = {}
    for name, value in config.model_dump(mode="json").items():  # as in the ledger: lists instead of tuples
        if isinstance(value, dict):
            flat.update({f"{name}.{leaf}": inner for leaf, inner in value.items()})
        else:
            flat[name] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a flattened configuration in its groups again."""
    groups: dict[str, Any] = {}
    for path, value in flat.items():
        group, _, leaf = path.rpartition(".")
        (groups.setdefault(group, {}) if group else groups)[leaf] = value
    return groups
