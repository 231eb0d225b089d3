"""A network in MLflow's ONNX flavour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def save_onnx_model(data: bytes, folder: Path) -> None:
    """Into a new folder, as ``mlflow.onnx`` and ``mlflow.pyfunc`` load it from anywhere: with a signature, an
    input example (a black image under the input's name), and the bytes of ``data`` as they are."""
    import mlflow.onnx  # loads pandas and more, which no sweep needs
    import onnx
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema

    versions = [f"onnx=={onnx.__version__}", "onnxruntime"]
    model = onnx.load_from_string(data)
    held = {tensor.name for tensor in model.graph.initializer}
    given = _form(next(i for i in model.graph.input if i.name not in held))
    shape = [1 if size == -1 else size for size in given.shape]
    mlflow.onnx.save_model(
        model,
        str(folder),
        signature=ModelSignature(Schema([given]), Schema([_form(model.graph.output[0])])),
        input_example={given.name: np.zeros(shape, given.type)},
        pip_requirements=versions,
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
    (folder / "model.onnx").write_bytes(data)  # as handed in, not as onnx writes it


def _form(value: Any) -> Any:
    """Name, type and shape of an input or output as MLflow says them; -1 where a size is open."""
    import onnx
    from mlflow.types import TensorSpec

    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.dim_value > 0 else -1 for d in tensor.shape.dim)
    # MLflow knows no value of which not even the number of axes is known.
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return TensorSpec(np.dtype(kind), shape or (-1, -1), value.name)
