"""Texts to vectors by a model of the library fastembed, by its name: an extra, since it fetches models from a hub.

The library knows how each of its models pools and what it wants said before a question. What it has fetched stays in a folder
of ours, and is found there without a network.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.embedding.packaged import TEXTS_PER_THREAD, Turns, in_turns, plain_tokenizer
from refdesk.outside.embedding.vectors import Encoded, Vectors, stacked, unit, without_tokens

PREFIX = "fastembed:"
"""How a name begins that is meant for this library."""
CHARACTERS_PER_TOKEN_MAX = 16


class FastembedEmbedder:
    """A model of fastembed. See `open_fastembed_embedder`."""

    provider = "refdesk"

    def __init__(self, model: Any, name: str, *, executor: ThreadPoolExecutor, turns: Turns) -> None:
        self.name = name
        self.call_texts = TEXTS_PER_THREAD * turns.threads
        self._model = model
        self._executor = executor
        self._turns = turns
        own: Tokenizer = model.model.tokenizer
        window: int = (own.truncation or {"max_length": 512})["max_length"]
        self._tokenizer = plain_tokenizer(Tokenizer.from_str(own.to_str()))
        self.tokens_max = window - self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._characters_max = CHARACTERS_PER_TOKEN_MAX * window
        self.dimensions = len(self._embed("word"))

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = await in_turns(self._embed, texts, executor=self._executor, turns=self._turns)
        return stacked(vectors, dimensions=self.dimensions)

    async def embed_questions(self, texts: Sequence[str]) -> Vectors:
        vectors = await in_turns(self._embed_question, texts, executor=self._executor, turns=self._turns)
        return stacked(vectors, dimensions=self.dimensions)

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return without_tokens(await self.embed(texts))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(read) for read in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [(start, end) for start, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    def _embed(self, text: str) -> Vectors:
        (vector,) = self._model.passage_embed([text[: self._characters_max]])
        return unit(vector)

    def _embed_question(self, text: str) -> Vectors:
        (vector,) = self._model.query_embed([text[: self._characters_max]])
        return unit(vector)


@asynccontextmanager
async def open_fastembed_embedder(
    name: str, folder: Path, *, turns: Turns | None = None, **options: Any
) -> AsyncIterator[FastembedEmbedder]:
    """The model of this name (`fastembed:…`), kept below ``folder``; fetched if it is not there. ``options`` are the library's.

    Raises ConfigurationError where the extra is not installed, the name is not known, or no hub can be reached.
    """
    turns = turns or Turns()
    with ThreadPoolExecutor(max_workers=turns.threads, thread_name_prefix="embed") as executor:

        def load() -> FastembedEmbedder:
            model = _load(name.removeprefix(PREFIX), folder, options)
            return FastembedEmbedder(model, name, executor=executor, turns=turns)

        yield await asyncio.get_running_loop().run_in_executor(executor, load)


def _load(name: str, folder: Path, options: dict[str, Any]) -> Any:
    try:
        library = import_module("fastembed").TextEmbedding
    except ImportError as error:
        raise ConfigurationError(
            f"{PREFIX}{name} needs the package fastembed: install refdesk[fastembed], or name a folder with the model."
        ) from error
    known = {model["model"].lower() for model in library.list_supported_models()}
    if name.lower() not in known:
        raise ConfigurationError(f"fastembed has no model {name}. Its documentation lists those that it has.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return library(name, cache_dir=str(folder), threads=1, **options)
    except Exception as error:  # the library and its hub raise all kinds
        raise ConfigurationError(
            f"The model {name} is not in {folder} and could not be fetched: {str(error)[:200]} Fetch it where there is a "
            "network and copy that folder, or name a folder with the model."
        ) from error
