"""The packaged MiniLM as one ONNX file: the weights become a graph once, as a rule quantised to int8. Runs as a child process.

    safetensors ──▶ BERT graph, each weight int8 as it is read ──▶ all-MiniLM-L6-v2-int8-<version>.onnx
                    or as it is                                ──▶ all-MiniLM-L6-v2-fp32-<version>.onnx
                    + mean pooling, L2 normalisation

Memory decides the shape of this module: a replica that starts on a busy machine must not need half a gigabyte to prepare what
it then holds in 60 MiB. So the graph is described first, with a recipe for each constant; then each constant is read, quantised
and written before the next. onnxruntime's own quantiser would hold the model several times over; what is written here holds
the same bytes as what it made (`tests/unit/test_embedding.py`). The graph uses onnxruntime's fused operators for attention, layer
normalisation and GELU. Inputs are ``input_ids`` and ``attention_mask``, both (n, tokens) int32; the output ``embedding`` is
(n, 384) float32, L2-normalised; the output ``tokens`` is (n, tokens, 384) float32, the last layer as it is, markers included.

It does not read any other model: names, shapes and constants are those of sentence-transformers/all-MiniLM-L6-v2.
"""

import hashlib
import json
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from refdesk.outside.embedding.prepared import LOCK_POLL_S, UNFINISHED, alone

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the original weights, as published by their authors."""

LAYERS = 6
HEADS = 12
HIDDEN = 384
LAYER_NORM_EPSILON = 1e-12
OPSET = 17
IR_VERSION = 8
FUSED = "com.microsoft"

INT8_MAX = 63
"""Seven bits of int8: a processor without VNNI adds two products in 16 bits. 255 * 127 * 2 does not fit; 255 * 64 * 2 does."""
UINT8_MAX = 255

Array = NDArray[Any]
Recipe = Callable[[], Array]


class Weights:
    """The tensors of a safetensors file (a length, a JSON header, raw little-endian bytes), each read when it is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        self._header: dict[str, Any] = json.loads(file.read(header_bytes))
        self._body = 8 + header_bytes

    def __call__(self, name: str) -> NDArray[np.float32]:
        """(rows, columns) or (rows,) float32, as the header says."""
        entry = self._header[name]
        first, end = entry["data_offsets"]
        self._file.seek(self._body + first)
        return np.frombuffer(self._file.read(end - first), dtype="<f4").reshape(entry["shape"])


def convert(weights_file: Path, target: Path, *, precision: str, anew: bool = False) -> None:
    """Write the graph of the weights to ``target``, as ``int8`` or ``fp32``, whole or not at all; one process at a time does.

    What another one has made meanwhile is left, unless ``anew``. Raises ValueError when these are not the original's weights.
    """
    with alone(target.parent, waiting=_wait):
        if target.is_file() and not anew:
            return
        verify(weights_file)
        with (
            tempfile.TemporaryDirectory(dir=target.parent, prefix=UNFINISHED) as directory,
            weights_file.open("rb") as file,
        ):
            graph = _Graph(Weights(file), int8=precision == "int8")
            graph.build()
            made = Path(directory) / target.name
            with made.open("wb") as out:
                graph.write(out)
                out.flush()
                os.fsync(out.fileno())
            made.replace(target)


def _wait() -> None:
    """For whoever makes it now."""
    _give_a_sign_of_life()
    time.sleep(LOCK_POLL_S)


def _give_a_sign_of_life() -> None:
    """To the parent, which ends a child that stands still, however slow the machine."""
    sys.stdout.write(".\n")
    sys.stdout.flush()


def verify(weights_file: Path) -> None:
    """Raises ValueError when the file is not the original's."""
    with weights_file.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ValueError(
            f"{weights_file.name} has sha256 {digest}; expected {WEIGHTS_SHA256}. Install the model package again."
        )


def scales_per_column(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """What one step of int8 is worth in each column: symmetric, so that zero stays zero. (columns,) float32."""
    largest = np.maximum(np.abs(weight.min(axis=0)), np.abs(weight.max(axis=0)))
    scales: NDArray[np.float32] = (2.0 * largest.astype(np.float64) / (2 * INT8_MAX)).astype(np.float32)
    return scales


def to_int8(weight: NDArray[np.float32]) -> NDArray[np.int8]:
    """(rows, columns) int8: per column, which keeps the vectors within 1 % of fp32."""
    steps = np.round(weight / scales_per_column(weight))
    return np.clip(steps, -INT8_MAX - 1, INT8_MAX).astype(np.int8)


def scale_and_zero(table: NDArray[np.float32]) -> tuple[np.float32, np.uint8]:
    """What one step of uint8 is worth in the whole table, and which step is zero."""
    low, high = min(float(table.min()), 0.0), max(float(table.max()), 0.0)
    step = np.float32((high - low) / UINT8_MAX)
    return step, np.uint8(np.clip(np.round(-low / float(step)), 0, UINT8_MAX))


def to_uint8(table: NDArray[np.float32], *, rows: int = 4096) -> NDArray[np.uint8]:
    """(rows, columns) uint8, made some rows at a time: the table of words is half of the model."""
    step, zero = scale_and_zero(table)
    steps = np.empty(table.shape, dtype=np.uint8)
    for first in range(0, len(table), rows):
        part = np.round(table[first : first + rows] / step) + np.float32(zero)
        steps[first : first + rows] = np.clip(part, 0, UINT8_MAX).astype(np.uint8)
    return steps


class _Graph:
    """The nodes, and how each constant is made; each method adds one part and returns its output's name."""

    def __init__(self, weights: Weights, *, int8: bool) -> None:
        self._weights = weights
        self._int8 = int8
        self._nodes: list[Any] = []
        self._recipes: dict[str, Recipe] = {}
        self._quantised: dict[str, tuple[str, str, str]] = {}

    def build(self) -> None:
        """Embeddings, six encoder layers, mean over the mask, L2 norm."""
        hidden = self._embed()
        for layer in range(LAYERS):
            hidden = self._encode(f"encoder.layer.{layer}", hidden)
        self._pool(hidden)

    def write(self, out: BinaryIO) -> None:
        """The model, then one constant after the other: parts of a message that follow each other are one message."""
        out.write(self._model().SerializeToString())
        for name, recipe in self._recipes.items():
            _give_a_sign_of_life()
            for part in _constant_bytes(name, recipe()):
                out.write(part)

    def _model(self) -> Any:
        shape = ["n", "tokens"]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in ("input_ids", "attention_mask")
        ]
        outputs = [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", HIDDEN]),
            helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["n", "tokens", HIDDEN]),
        ]
        graph = helper.make_graph(self._nodes, "all-MiniLM-L6-v2", inputs, outputs)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    def _embed(self) -> str:
        weights = self._weights
        positions = self._constant(
            "positions",
            lambda: (
                weights("embeddings.position_embeddings.weight") + weights("embeddings.token_type_embeddings.weight")[0]
            ),
        )
        shape = self._node("Shape", ["input_ids"], start=1, end=2)
        zero = self._constant("zero", lambda: np.array([0], dtype=np.int64))
        placed = self._node("Slice", [positions, zero, shape])
        summed = self._node("Add", [self._words(), placed])
        return self._normalise("embeddings.LayerNorm", summed)

    def _words(self) -> str:
        def table() -> NDArray[np.float32]:
            return self._weights("embeddings.word_embeddings.weight")

        if not self._int8:
            return self._node("Gather", [self._constant("words", table), "input_ids"])
        steps = self._constant("words_quantized", lambda: to_uint8(table()))
        scale = self._constant("words_scale", lambda: np.array(scale_and_zero(table())[0]))
        zero = self._constant("words_zero_point", lambda: np.array(scale_and_zero(table())[1]))
        return self._node("DequantizeLinear", [self._node("Gather", [steps, "input_ids"]), scale, zero])

    def _encode(self, prefix: str, hidden: str) -> str:
        attended = self._attend(f"{prefix}.attention.self", hidden)
        projected = self._linear(f"{prefix}.attention.output.dense", attended)
        middle = self._add_and_normalise(f"{prefix}.attention.output", projected, hidden)
        widened = self._matmul(f"{prefix}.intermediate.dense", middle)
        bias = self._constant(f"{prefix}.intermediate.dense.bias")
        activated = self._node("BiasGelu", [widened, bias], domain=FUSED)
        return self._add_and_normalise(f"{prefix}.output", self._linear(f"{prefix}.output.dense", activated), middle)

    def _pool(self, hidden: str) -> None:
        last = self._constant("last_axis", lambda: np.array([2], dtype=np.int64))
        mask = self._node("Unsqueeze", [self._node("Cast", ["attention_mask"], to=TensorProto.FLOAT), last])
        tokens = self._constant("token_axis", lambda: np.array([1], dtype=np.int64))
        self._node("Identity", [hidden], output="tokens")
        summed = self._node("ReduceSum", [self._node("Mul", [hidden, mask]), tokens], keepdims=0)
        self._node("LpNormalization", [summed], output="embedding", axis=1, p=2)

    def _attend(self, prefix: str, hidden: str) -> str:
        parts = [f"{prefix}.{part}" for part in ("query", "key", "value")]

        def weight() -> NDArray[np.float32]:
            return np.concatenate([self._weights(f"{part}.weight").T for part in parts], axis=1)

        bias = self._constant(
            f"{prefix}.bias", lambda: np.concatenate([self._weights(f"{part}.bias") for part in parts])
        )
        if not self._int8:
            inputs = [hidden, self._constant(f"{prefix}.weight", weight), bias, "attention_mask"]
            return self._node("Attention", inputs, domain=FUSED, num_heads=HEADS)
        steps, scale, zero = self._steps(hidden)
        weight_steps, weight_scale, weight_zero = self._int8_constants(f"{prefix}.weight", weight)
        inputs = [steps, weight_steps, bias, scale, weight_scale, "attention_mask", zero, weight_zero, ""]
        return self._node("QAttention", inputs, domain=FUSED, num_heads=HEADS)

    def _add_and_normalise(self, prefix: str, update: str, residual: str) -> str:
        return self._normalise(f"{prefix}.LayerNorm", self._node("Add", [update, residual]))

    def _normalise(self, prefix: str, value: str) -> str:
        scale, bias = self._constant(f"{prefix}.weight"), self._constant(f"{prefix}.bias")
        return self._node("LayerNormalization", [value, scale, bias], epsilon=LAYER_NORM_EPSILON)

    def _linear(self, prefix: str, value: str) -> str:
        return self._node("Add", [self._matmul(prefix, value), self._constant(f"{prefix}.bias")])

    def _matmul(self, prefix: str, value: str) -> str:
        def weight() -> NDArray[np.float32]:
            return self._weights(f"{prefix}.weight").T

        if not self._int8:
            return self._node("MatMul", [value, self._constant(f"{prefix}.weight", weight)])
        steps, scale, zero = self._steps(value)
        weight_steps, weight_scale, weight_zero = self._int8_constants(f"{prefix}.weight", weight)
        product = self._node("MatMulInteger", [steps, weight_steps, zero, weight_zero])
        scales = self._node("Mul", [scale, weight_scale])
        return self._node("Mul", [self._node("Cast", [product], to=TensorProto.FLOAT), scales])

    def _steps(self, value: str) -> tuple[str, str, str]:
        """A value in uint8 steps as it comes, what a step is worth, and which is zero."""
        names = (f"{value}_steps", f"{value}_scale", f"{value}_zero_point")
        self._nodes.append(helper.make_node("DynamicQuantizeLinear", [value], names, name=f"node_{names[0]}"))
        return names

    def _int8_constants(self, name: str, weight: Callable[[], NDArray[np.float32]]) -> tuple[str, str, str]:
        def zeros() -> Array:
            return np.zeros(weight().shape[1], dtype=np.int8)

        return (
            self._constant(f"{name}_quantized", lambda: to_int8(weight())),
            self._constant(f"{name}_scale", lambda: scales_per_column(weight())),
            self._constant(f"{name}_zero_point", zeros),
        )

    def _constant(self, name: str, recipe: Recipe | None = None) -> str:
        """Without a recipe, the weight of this name."""
        self._recipes[name] = recipe or (lambda: self._weights(name))
        return name

    def _node(self, kind: str, inputs: list[str], *, output: str = "", domain: str = "", **attributes: Any) -> str:
        name = output or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=f"node_{name}", domain=domain, **attributes))
        return name


_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data


def _constant_bytes(name: str, value: Array) -> Iterator[bytes | memoryview]:
    """The constant as one more part of the model's graph, its data not copied."""
    data = np.ascontiguousarray(value)
    about = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(data.dtype), dims=value.shape)
    tensor = about.SerializeToString() + _field(_RAW_DATA, data.nbytes)
    initializer = _field(_INITIALIZER, len(tensor) + data.nbytes)
    yield _field(_GRAPH, len(initializer) + len(tensor) + data.nbytes) + initializer + tensor
    yield data.data.cast("B") if data.ndim else data.tobytes()


def _field(number: int, size_bytes: int) -> bytes:
    """The key of a length-delimited field, and its length as a varint."""
    varint = bytearray()
    while size_bytes > 0x7F:
        varint.append(size_bytes & 0x7F | 0x80)
        size_bytes >>= 7
    return bytes([number << 3 | 2, *varint, size_bytes])


def main(weights_file: str, target: str, precision: str, anew: str) -> None:
    """Exits with a sentence where the disk or the weights are to blame."""
    try:
        convert(Path(weights_file), Path(target), precision=precision, anew=anew == "1")
    except OSError as error:
        sys.exit(f"{Path(target).parent}: {error.strerror}")
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
