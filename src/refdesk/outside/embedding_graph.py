"""The packaged MiniLM as one ONNX file: the weights become a graph once, as a rule quantised to int8. Runs as a child process.

    safetensors ──▶ BERT graph, fp32 ──▶ dynamic int8 ──▶ all-MiniLM-L6-v2-int8-<version>.onnx
                    + mean pooling
                    + L2 normalisation ──▶ all-MiniLM-L6-v2-fp32-<version>.onnx

`onnx` and the quantiser cost some 150 MB of memory, so they live and die in ``python -m refdesk.outside.embedding_graph
WEIGHTS FILE PRECISION``; whoever embeds only ever loads the finished file. The graph uses onnxruntime's fused operators for
attention, layer normalisation and GELU. Inputs are ``input_ids`` and ``attention_mask``, both (n, tokens) int32;
the output ``embedding`` is (n, 384) float32, L2-normalised.

It does not read any other model: names, shapes and constants are those of sentence-transformers/all-MiniLM-L6-v2.
"""

import hashlib
import json
import os
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[attr-defined]  # declares no exports

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the original weights, as published by their authors."""

LAYERS = 6
HEADS = 12
HIDDEN = 384
LAYER_NORM_EPSILON = 1e-12
OPSET = 17
FUSED = "com.microsoft"

Weights = dict[str, NDArray[np.float32]]


def convert(weights_file: Path, target: Path, *, precision: str) -> None:
    """Write the graph of the verified weights to ``target``, as ``int8`` or ``fp32``; atomic: any number may do it at once."""
    weights = read_weights(weights_file)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as directory:
        full, small = Path(directory) / "fp32.onnx", Path(directory) / "int8.onnx"
        onnx.save_model(build_graph(weights), str(full))
        if precision == "int8":
            quantise(full, small)
        made = small if precision == "int8" else full
        _flush(made)
        made.replace(target)


def read_weights(file: Path) -> Weights:
    """The tensors of a safetensors file: a length, a JSON header, raw little-endian bytes. Verifies the digest."""
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ValueError(
            f"{file.name} has sha256 {digest}; expected {WEIGHTS_SHA256}. Install the model package again."
        )
    (header_bytes,) = struct.unpack_from("<Q", content)
    header: dict[str, Any] = json.loads(content[8 : 8 + header_bytes])
    body = memoryview(content)[8 + header_bytes :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], dtype="<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if entry.get("dtype") == "F32"
    }


def build_graph(weights: Weights) -> Any:
    """The fp32 model: embeddings, six encoder layers, mean over the mask, L2 norm."""
    graph = _Graph(weights)
    hidden = graph.embed()
    for layer in range(LAYERS):
        hidden = graph.encode(layer, hidden)
    graph.pool(hidden)
    return graph.model()


def quantise(source: Path, target: Path) -> None:
    """Weights to int8, activations to uint8 as they come; per channel, which keeps the vectors within 1 % of fp32."""
    quantize_dynamic(
        str(source),
        str(target),
        op_types_to_quantize=["Attention", "MatMul", "Gather"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
    )


class _Graph:
    """Nodes and constants of the graph in the making; each method adds one part and returns its output's name."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def embed(self) -> str:
        token_type = self._weights["embeddings.token_type_embeddings.weight"][0]
        positions = self._constant("positions", self._weights["embeddings.position_embeddings.weight"] + token_type)
        words = self._constant("words", self._weights["embeddings.word_embeddings.weight"])
        shape = self._node("Shape", ["input_ids"], start=1, end=2)
        zero = self._constant("zero", np.array([0], dtype=np.int64))
        placed = self._node("Slice", [positions, zero, shape])
        summed = self._node("Add", [self._node("Gather", [words, "input_ids"]), placed])
        scale, bias = self._pair("embeddings.LayerNorm")
        return self._node("LayerNormalization", [summed, scale, bias], epsilon=LAYER_NORM_EPSILON)

    def encode(self, layer: int, hidden: str) -> str:
        prefix = f"encoder.layer.{layer}"
        attended = self._attend(f"{prefix}.attention.self", hidden)
        projected = self._linear(f"{prefix}.attention.output.dense", attended)
        middle = self._add_and_normalise(f"{prefix}.attention.output", projected, hidden)
        widened = self._matmul(f"{prefix}.intermediate.dense", middle)
        bias = self._constant(f"{prefix}.intermediate.bias", self._weights[f"{prefix}.intermediate.dense.bias"])
        activated = self._node("BiasGelu", [widened, bias], domain=FUSED)
        return self._add_and_normalise(f"{prefix}.output", self._linear(f"{prefix}.output.dense", activated), middle)

    def pool(self, hidden: str) -> None:
        last = self._constant("last_axis", np.array([2], dtype=np.int64))
        mask = self._node("Unsqueeze", [self._node("Cast", ["attention_mask"], to=TensorProto.FLOAT), last])
        tokens = self._constant("token_axis", np.array([1], dtype=np.int64))
        summed = self._node("ReduceSum", [self._node("Mul", [hidden, mask]), tokens], keepdims=0)
        self._node("LpNormalization", [summed], output="embedding", axis=1, p=2)

    def model(self) -> Any:
        shape = ["n", "tokens"]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in ("input_ids", "attention_mask")
        ]
        outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", HIDDEN])]
        graph = helper.make_graph(self._nodes, "all-MiniLM-L6-v2", inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def _attend(self, prefix: str, hidden: str) -> str:
        parts = ("query", "key", "value")
        weight = np.concatenate([self._weights[f"{prefix}.{part}.weight"].T for part in parts], axis=1)
        bias = np.concatenate([self._weights[f"{prefix}.{part}.bias"] for part in parts])
        inputs = [hidden, self._constant(f"{prefix}.weight", weight), self._constant(f"{prefix}.bias", bias)]
        return self._node("Attention", [*inputs, "attention_mask"], domain=FUSED, num_heads=HEADS)

    def _add_and_normalise(self, prefix: str, update: str, residual: str) -> str:
        scale, bias = self._pair(f"{prefix}.LayerNorm")
        summed = self._node("Add", [update, residual])
        return self._node("LayerNormalization", [summed, scale, bias], epsilon=LAYER_NORM_EPSILON)

    def _linear(self, prefix: str, value: str) -> str:
        bias = self._constant(f"{prefix}.bias", self._weights[f"{prefix}.bias"])
        return self._node("Add", [self._matmul(prefix, value), bias])

    def _matmul(self, prefix: str, value: str) -> str:
        return self._node("MatMul", [value, self._constant(f"{prefix}.weight", self._weights[f"{prefix}.weight"].T)])

    def _pair(self, prefix: str) -> tuple[str, str]:
        scale, bias = (
            self._constant(f"{prefix}.{part}", self._weights[f"{prefix}.{part}"]) for part in ("weight", "bias")
        )
        return scale, bias

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _node(self, kind: str, inputs: list[str], *, output: str = "", domain: str = "", **attributes: Any) -> str:
        name = output or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=f"node_{name}", domain=domain, **attributes))
        return name


def _flush(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), precision=sys.argv[3])
