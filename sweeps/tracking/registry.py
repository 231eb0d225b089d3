"""A network as a version of a registered model in MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.tracking.onnx_model import save_onnx_model

if TYPE_CHECKING:
    from mlflow import MlflowClient


def new_version(
    client: MlflowClient,
    run_id: str,
    place: str,
    onnx: bytes,
    name: str,
    alias: str,
    tags: Mapping[str, str],
    description: str,
    beside: Mapping[str, bytes],
) -> str:
    """A new version of registered model ``name``, which ``alias`` then points to; its number.

    The files go into run ``run_id``, which is the version's source, under ``place``; ``beside`` are more
    files (by name) for the model's folder.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    with tempfile.TemporaryDirectory() as folder:
        save_onnx_model(onnx, Path(folder) / "model")
        for file, data in beside.items():
            (Path(folder) / "model" / file).write_bytes(data)
        client.log_artifacts(run_id, f"{folder}/model", place)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    version = client.create_model_version(
        name,
        f"{client.get_run(run_id).info.artifact_uri}/{place}",
        run_id,
        tags=dict(tags),
        description=description,
        await_creation_for=30,
    ).version
    client.set_registered_model_alias(name, alias, version)
    return str(version)
