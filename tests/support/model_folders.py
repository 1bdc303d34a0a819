"""The packaged weights, exported as folders of models in ONNX are: an embedder, and a cross-encoder made of the same layers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from refdesk.outside.embedding.prepared import FP32, graph_file, locate_model, prepare

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
DIMENSIONS = 384
WINDOW = 256


async def export_embedder(folder: Path, *, models: Path, **changes: Any) -> Path:
    """As sentence-transformers exports it: vectors of tokens, wide integers. ``changes`` are of 1_Pooling/config.json."""
    await _export(folder, models, _give_tokens)
    modules = [{"idx": n, "type": f"sentence_transformers.models.{kind}"} for n, kind in enumerate(MODULES)]
    write(folder / "modules.json", modules)
    pooling = {
        "word_embedding_dimension": DIMENSIONS,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": False,
    }
    write(folder / "1_Pooling" / "config.json", pooling | changes)
    return folder


MODULES = ("Transformer", "Pooling", "Normalize")


async def export_cross_encoder(folder: Path, *, models: Path) -> Path:
    """One number for a pair: the first token's vector by fixed weights."""
    await _export(folder, models, _give_logit)
    return folder


def logit_weights() -> NDArray[np.float32]:
    return np.linspace(-1, 1, DIMENSIONS, dtype=np.float32)[:, np.newaxis]


def write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), "utf-8")


async def _export(folder: Path, models: Path, finish: Callable[[Any, str], None]) -> None:
    await prepare([models], name=FP32)
    model = onnx.load(str(graph_file(models, name=FP32)))
    _widen(model.graph)
    (hidden,) = [node.input[0] for node in model.graph.node if node.op_type == "Mul"]
    finish(model.graph, hidden)
    (folder / "onnx").mkdir(parents=True)
    onnx.save(model, str(folder / "onnx" / "model.onnx"))
    shutil.copy(locate_model() / "tokenizer.json", folder)
    write(folder / "sentence_bert_config.json", {"max_seq_length": WINDOW})
    write(folder / "tokenizer_config.json", {"model_max_length": 512})


def _widen(graph: Any) -> None:
    """Inputs of 64 bits, and token types, as exporters write them; the layers want 32."""
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in INPUTS:
                node.input[place] = f"{name}_narrow"
    del graph.input[:]
    for place, name in enumerate(INPUTS):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "tokens"]))
        if name != "token_type_ids":
            graph.node.insert(place, helper.make_node("Cast", [name], [f"{name}_narrow"], to=TensorProto.INT32))


def _give_tokens(graph: Any, hidden: str) -> None:
    del graph.output[:]
    graph.node.append(helper.make_node("Identity", [hidden], ["last_hidden_state"]))
    shape = ["n", "tokens", DIMENSIONS]
    graph.output.append(helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, shape))


def _give_logit(graph: Any, hidden: str) -> None:
    del graph.output[:]
    graph.initializer.append(numpy_helper.from_array(logit_weights(), "logit_weights"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, dtype=np.int64), "first_token"))
    graph.node.append(helper.make_node("Gather", [hidden, "first_token"], ["first"], axis=1))
    graph.node.append(helper.make_node("MatMul", ["first", "logit_weights"], ["logits"]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1]))
