"""Owns an ONNX file as an MLflow model: onnx flavour, signature, contract, and the very same bytes.

A sensor reads `MLmodel`, finds the file's name under `flavors.onnx.data` and
fetches it. A checksum must hold from training to sensor, so the file is never
written anew from its parsed form.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx.helper import tensor_dtype_to_np_dtype

from .contract import read_contract
from .errors import UnreadableInput

#: Longest value that goes into `MLmodel`; all of the contract is in contract.json.
_SHORT = 500


@dataclass(frozen=True)
class ModelFile:
    """A model file that keeps the contract."""

    path: Path
    data: bytes
    proto: onnx.ModelProto
    contract: dict[str, str]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def short_contract(self) -> dict[str, str]:
        """What a person wants to see of the contract in a list of models."""
        return {key: value for key, value in self.contract.items() if len(value) <= _SHORT}


def read_model(path: Path) -> ModelFile:
    """Reads and checks a model file; raises if a sensor would refuse its contract."""
    try:
        data = path.read_bytes()
        proto = onnx.load_from_string(data)
    except Exception as error:  # protobuf's own errors share no base class
        raise UnreadableInput(f"{path}: not a readable ONNX model: {error}") from error
    return ModelFile(path, data, proto, read_contract(proto, str(path)))


def log_model(model: ModelFile, run_id: str) -> str:
    """Logs the model into the run and returns its `models:/...` URI."""
    from mlflow.models import Model

    packages = [f"{name}=={importlib.metadata.version(name)}" for name in ("onnx", "onnxruntime")]
    info = Model.log(
        artifact_path=None,
        name="model",
        run_id=run_id,
        flavor=_SameBytes(model),
        signature=_signature(model.proto),
        metadata={**model.short_contract, "sha256": model.sha256},
        pip_requirements=packages,
    )
    return info.model_uri


class _SameBytes:
    """MLflow's onnx flavour, but the file is a copy of ours."""

    def __init__(self, model: ModelFile) -> None:
        self._model = model

    def save_model(self, path: str, **arguments: object) -> None:
        import mlflow.onnx

        mlflow.onnx.save_model(
            self._model.proto,
            path,
            # External data would be a second file, which sensors refuse.
            save_as_external_data=False,
            onnx_execution_providers=["CPUExecutionProvider"],
            **arguments,
        )
        (Path(path) / "model.onnx").write_bytes(self._model.data)
        contract = json.dumps(self._model.contract, indent=1, ensure_ascii=False)
        (Path(path) / "contract.json").write_text(contract + "\n", encoding="utf-8")


def _signature(proto: onnx.ModelProto) -> object:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(values: list[onnx.ValueInfoProto]) -> Schema:
        return Schema([
            TensorSpec(
                tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
                tuple(size.dim_value or -1 for size in value.type.tensor_type.shape.dim),
                value.name,
            )
            for value in values
        ])

    return ModelSignature(inputs=schema(proto.graph.input), outputs=schema(proto.graph.output))
