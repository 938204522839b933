"""Registers trained models in MLflow, with code that needs open_clip but not gaptune."""

from __future__ import annotations

import base64
import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gaptune.errors import UserError

_CODE = Path(__file__).parent / "embedder.py"


def check_model_name(name: str) -> None:
    """Checks a name for the registry, before anything is exported.

    Raises:
        UserError: MLflow's registry does not accept it.
    """
    if not name.strip() or "/" in name or ":" in name or name in (".", "..") or not name.isprintable():
        raise UserError(
            f"{name!r} is no valid name for a registered model: use letters, digits, - and _, but no / or :"
        )


def register_model(exported: Path, *, name: str, uri: str, run: str, tags: Mapping[str, str]) -> str:
    """Logs an exported model to a run and registers it.

    The model takes a table with a column ``text``, a column ``image`` (files such as PNG or JPEG in base64, or data
    URLs of them), or both, and returns ``text_embedding`` and ``image_embedding``, of length 1. Images are preprocessed
    as ``preprocess_cfg`` of the export says. It is stored as code and weights, without pickle.

    Args:
        exported: Directory written by ``export_model``.
        name: Name in the registry.
        uri: MLflow's tracking URI.
        run: Id of the trial's run.
        tags: Tags of the registered version.

    Returns:
        The version.

    Raises:
        UserError: The store has no such run.
    """
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)  # log_model takes no URI; this call also sets an environment variable
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # MLflow prints what it does; errors are raised
            version = _log(exported, name, run, uri)
        client = mlflow.MlflowClient()
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None unsets it
    return version


def _log(exported: Path, name: str, run: str, uri: str) -> str:
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import Array

    client = mlflow.MlflowClient()
    try:
        ended = client.get_run(run).info.end_time
        mlflow.start_run(run_id=run)
    except MlflowException as error:
        raise UserError(f"MLflow at {uri} does not have the trial's run ({error.message}); run gaptune sync") from None
    try:
        info: Any = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(_CODE),
            artifacts={"model": str(exported)},
            signature=ModelSignature(
                inputs=Schema([ColSpec("string", name, required=False) for name in ("text", "image")]),
                outputs=Schema(
                    [ColSpec(Array("double"), f"{name}_embedding", required=False) for name in ("text", "image")]
                ),
            ),
            input_example=_example(),
            pip_requirements=["open_clip_torch", "torch", "pandas", "pillow"],
            registered_model_name=name,
        )
    finally:
        mlflow.end_run()
        client.set_terminated(run, end_time=ended)  # when the trial ended, not now
    return str(info.registered_model_version)


def _example() -> Any:
    """An example input with one row, stored with the model."""
    import pandas as pd
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return pd.DataFrame({"text": ["a red square"], "image": [base64.b64encode(file.getvalue()).decode()]})
