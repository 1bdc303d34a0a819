"""A folder with a model in ONNX, as sentence-transformers and optimum write it: what its own files say of it.

    model/
      tokenizer.json
      config.json  tokenizer_config.json  sentence_bert_config.json     how much of a text it reads
      onnx/model.onnx  (or model.onnx)                                  the graph
      modules.json  1_Pooling/config.json                               how vectors of tokens become one of a text
      config_sentence_transformers.json                                 what is said before questions and passages

Whatever is missing, or is not what Refdesk runs, is refused by the name of its file, before anything is built with it. Nothing
of a folder is executed: a graph and a vocabulary are data.
"""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from refdesk.contracts.errors import ConfigurationError

GRAPHS = (
    "onnx/model.onnx",
    "model.onnx",
    "onnx/model_optimized.onnx",
    "model_optimized.onnx",
    "onnx/model_quantized.onnx",
)
"""Where a graph may be, in the order in which they are looked for."""
POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
RUN = ("Transformer", "Pooling", "Normalize")
"""The modules of sentence-transformers that Refdesk runs; vectors are always normalised."""
QUESTION_PROMPTS = ("query", "question")
PASSAGE_PROMPTS = ("document", "passage")
TOKENS_MAX = 8192
"""What is read of a text at most, whatever the model could."""
DIGEST_CHARACTERS = 12


class ModelFolder(msgspec.Struct, frozen=True, kw_only=True):
    """``name`` says which model it is, whatever the folder is called: another graph, vocabulary or recipe is another name."""

    path: Path
    name: str
    graph: Path
    tokenizer: Path
    tokens_max: int


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How a folder's embedder makes one vector of a text. The prefixes stand before the text."""

    pooling: str
    dimensions: int
    before_questions: str = ""
    before_passages: str = ""


def look_into(path: Path) -> ModelFolder:
    """What is needed of any model. Reads all of it once. Raises ConfigurationError, naming what is missing."""
    if not path.is_dir():
        raise ConfigurationError(f"There is no model folder {path}.")
    graph = next((path / name for name in GRAPHS if (path / name).is_file()), None)
    if graph is None:
        raise ConfigurationError(
            f"{path} has no ONNX graph (onnx/model.onnx). Export it: `optimum-cli export onnx --model NAME FOLDER`."
        )
    tokenizer = path / "tokenizer.json"
    if not tokenizer.is_file():
        raise ConfigurationError(f"{path} has no tokenizer.json. Copy the one that the model is published with.")
    return ModelFolder(
        path=path,
        name=f"{path.name}@{_digest(path, graph)}",
        graph=graph,
        tokenizer=tokenizer,
        tokens_max=_window(path),
    )


def recipe_of(path: Path) -> Recipe:
    """An embedder's, by its own configuration. Raises ConfigurationError for what is missing or not run here."""
    modules = _object(path / "modules.json", otherwise=[])
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    foreign = [kind for kind in kinds if kind not in RUN]
    if foreign:
        raise ConfigurationError(f"{path}/modules.json has a module {foreign[0]}; Refdesk runs {', '.join(RUN)}.")
    file = next(iter(sorted(path.glob("*_Pooling/config.json"))), path / "1_Pooling" / "config.json")
    pooling = _object(file)
    wanted = [name for name, on in pooling.items() if name.startswith("pooling_mode_") and on is True]
    if len(wanted) != 1 or wanted[0] not in POOLINGS:
        raise ConfigurationError(
            f"{file} asks for {' and '.join(wanted) or 'no pooling'}; one of {', '.join(POOLINGS)} is run."
        )
    dimensions = pooling.get("word_embedding_dimension")
    if not isinstance(dimensions, int):
        raise ConfigurationError(f"{file} does not say word_embedding_dimension.")
    prompts = _object(path / "config_sentence_transformers.json", otherwise={}).get("prompts") or {}
    return Recipe(
        pooling=POOLINGS[wanted[0]],
        dimensions=dimensions,
        before_questions=_first(prompts, QUESTION_PROMPTS),
        before_passages=_first(prompts, PASSAGE_PROMPTS),
    )


def _first(prompts: dict[str, Any], names: tuple[str, ...]) -> str:
    return str(next((prompts[name] for name in names if prompts.get(name)), ""))


def _window(path: Path) -> int:
    """How many tokens the model reads: the least of what its files say."""
    said = (
        _object(path / "sentence_bert_config.json", otherwise={}).get("max_seq_length"),
        _object(path / "tokenizer_config.json", otherwise={}).get("model_max_length"),
        _object(path / "config.json", otherwise={}).get("max_position_embeddings"),
    )
    found = [int(one) for one in said if isinstance(one, int | float) and one >= 1]
    if not found:
        raise ConfigurationError(f"{path} does not say how many tokens the model reads (sentence_bert_config.json).")
    return min(*found, TOKENS_MAX)


def _object(file: Path, *, otherwise: Any = None) -> Any:
    """What a file of JSON holds. Without it ``otherwise``, or ConfigurationError where there is none."""
    try:
        return msgspec.json.decode(file.read_bytes())
    except FileNotFoundError as error:
        if otherwise is not None:
            return otherwise
        raise ConfigurationError(f"{file} is missing: it says what to do with the model's output.") from error
    except (msgspec.DecodeError, OSError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error


def _digest(path: Path, graph: Path) -> str:
    digest = hashlib.sha256()
    beside = sorted(graph.parent.glob(f"{graph.name}*"))  # weights of a large graph are in a file beside it
    configurations = [*sorted(path.glob("*.json")), *sorted(path.glob("*_Pooling/config.json"))]
    for file in [*beside, *configurations]:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:DIGEST_CHARACTERS]
