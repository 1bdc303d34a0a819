"""Texts to vectors by a model in a folder (`model_folder`), on this machine's own processor.

It runs as the packaged one does (`embedding`): a text by itself, in turn with the texts of others. Pooling, dimensions and what
is said before questions and passages are the model's own.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.embedding.packaged import TEXTS_PER_THREAD, Turns, in_turns, load_tokenizer, open_session
from refdesk.outside.embedding.vectors import Encoded, Vectors, stacked, unit
from refdesk.outside.inference import InferenceSession
from refdesk.outside.model_folder import ModelFolder, Recipe, look_into, recipe_of

CHARACTERS_PER_TOKEN_MAX = 16
"""What is looked at of a text, per token of the window."""
TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")
"""What exporters call the vectors of the tokens."""
_TYPES = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}


class FolderEmbedder:
    """A model of a folder. See `open_folder_embedder`."""

    provider = "refdesk"

    def __init__(self, folder: ModelFolder, recipe: Recipe, *, executor: ThreadPoolExecutor, turns: Turns) -> None:
        self.name = folder.name
        self.dimensions = recipe.dimensions
        self.call_texts = TEXTS_PER_THREAD * turns.threads
        self._recipe = recipe
        self._tokenizer = load_tokenizer(folder.tokenizer)
        self._session = open_session(folder.graph)
        require_known_inputs(self._session, folder.path)
        self._output = _token_output(self._session, folder.path)
        self._executor = executor
        self._turns = turns
        self._window = folder.tokens_max - self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self.tokens_max = self._window - len(self._tokenizer.encode(recipe.before_passages, add_special_tokens=False))

    async def embed(self, texts: Sequence[str]) -> Vectors:
        return await self._embed_after(self._recipe.before_passages, texts)

    async def embed_questions(self, texts: Sequence[str]) -> Vectors:
        return await self._embed_after(self._recipe.before_questions, texts)

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return await in_turns(self._encode, texts, executor=self._executor, turns=self._turns)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(read) for read in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [(start, end) for start, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    async def _embed_after(self, prefix: str, texts: Sequence[str]) -> Vectors:
        made = await in_turns(
            lambda text: self._pooled(self._run(prefix + text)[0]), texts, executor=self._executor, turns=self._turns
        )
        return stacked(made, dimensions=self.dimensions)

    def _encode(self, text: str) -> Encoded:
        prefix = self._recipe.before_passages
        vectors, spans = self._run(prefix + text)
        own = [place for place, (start, end) in enumerate(spans) if len(prefix) <= start < end]  # a marker is empty
        own_spans = [(spans[place][0] - len(prefix), spans[place][1] - len(prefix)) for place in own]
        return Encoded(self._pooled(vectors), unit(vectors[own]), own_spans)

    def _run(self, text: str) -> tuple[Vectors, list[tuple[int, int]]]:
        """What the graph gives for each token, the model's markers included, and where each stands."""
        encoding = self._tokenizer.encode(text[: CHARACTERS_PER_TOKEN_MAX * self._window], add_special_tokens=False)
        encoding.truncate(self._window)
        whole = self._tokenizer.post_process(encoding, None, True)
        (outputs,) = self._session.run([self._output], inputs_of(self._session, whole.ids))
        return np.asarray(outputs, dtype=np.float32)[0], whole.offsets

    def _pooled(self, vectors: Vectors) -> Vectors:
        return unit(_pool(vectors, self._recipe.pooling))


@asynccontextmanager
async def open_folder_embedder(path: Path, *, turns: Turns | None = None) -> AsyncIterator[FolderEmbedder]:
    """The model of a folder, ready. Raises ConfigurationError where it is not whole, or its model is not what it says."""
    turns = turns or Turns()
    with ThreadPoolExecutor(max_workers=turns.threads, thread_name_prefix="embed") as executor:

        def load() -> FolderEmbedder:
            return FolderEmbedder(look_into(path), recipe_of(path), executor=executor, turns=turns)

        embedder = await asyncio.get_running_loop().run_in_executor(executor, load)
        await _try(embedder, path)
        yield embedder


async def _try(embedder: FolderEmbedder, path: Path) -> None:
    """One word is embedded: a graph may say of itself what it does not do."""
    try:
        found = (await embedder.embed(["word"])).shape[1]
    except Exception as error:  # onnxruntime's errors share no base class
        raise ConfigurationError(f"The model of {path} does not run: {str(error)[:300]}") from error
    if found != embedder.dimensions:
        raise ConfigurationError(
            f"{path}/1_Pooling/config.json says {embedder.dimensions} dimensions; the graph gives {found}. "
            "Its files are of two models."
        )


def inputs_of(
    session: InferenceSession, ids: Sequence[int], *, types: Sequence[int] | None = None
) -> dict[str, NDArray[np.integer]]:
    """What the graph takes of ids, mask and token types: each (1, tokens), of the type it wants."""
    values = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types or [0] * len(ids)}
    return {one.name: np.array([values[one.name]], dtype=_TYPES[one.type]) for one in session.get_inputs()}


def require_known_inputs(session: InferenceSession, path: Path) -> None:
    """Raises ConfigurationError for a graph that wants what Refdesk does not give."""
    known = {"input_ids", "attention_mask", "token_type_ids"}
    foreign = [one.name for one in session.get_inputs() if one.name not in known or one.type not in _TYPES]
    if foreign:
        raise ConfigurationError(
            f"The graph of {path} wants an input {foreign[0]}; Refdesk gives {', '.join(sorted(known))}."
        )


def _token_output(session: InferenceSession, path: Path) -> str:
    """The output with a vector for each token. Raises ConfigurationError for a graph of another kind."""
    names = [one.name for one in session.get_outputs()]
    found = next((name for name in TOKEN_OUTPUTS if name in names), None)
    if found is None:
        raise ConfigurationError(
            f"The graph of {path} gives {', '.join(names)}; {TOKEN_OUTPUTS[0]} is needed. Export it for feature extraction."
        )
    return found


def _pool(tokens: NDArray[np.float32], pooling: str) -> NDArray[np.float32]:
    """(tokens, dimensions) to (dimensions,): no token is padding, since a text runs alone."""
    match pooling:
        case "cls":
            pooled = tokens[0]
        case "last":
            pooled = tokens[-1]
        case "max":
            pooled = tokens.max(axis=0)
        case _:
            pooled = tokens.mean(axis=0)
    return np.asarray(pooled, dtype=np.float32)
