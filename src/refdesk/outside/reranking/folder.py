"""Passages in a better order by a cross-encoder in a folder (`model_folder`), on this machine's own processor.

A question and a passage are read together, and the graph gives one number. Passages run one by one: what is given up between
two of them costs no more.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.embedding.folder import CHARACTERS_PER_TOKEN_MAX, inputs_of, require_known_inputs
from refdesk.outside.embedding.packaged import load_tokenizer, open_session
from refdesk.outside.model_folder import ModelFolder, look_into


class FolderReranker:
    """A cross-encoder of a folder. See `open_folder_reranker`."""

    def __init__(self, folder: ModelFolder, *, executor: ThreadPoolExecutor) -> None:
        self.name = folder.name
        self._tokenizer = load_tokenizer(folder.tokenizer)
        self._tokenizer.enable_truncation(folder.tokens_max, strategy="longest_first")
        self._session = open_session(folder.graph)
        require_known_inputs(self._session, folder.path)
        self._output = self._session.get_outputs()[0].name
        self._characters_max = CHARACTERS_PER_TOKEN_MAX * folder.tokens_max
        self._executor = executor

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._executor, self._score, question, text) for text in texts]

    def _score(self, question: str, text: str) -> float:
        encoding = self._tokenizer.encode(question[: self._characters_max], text[: self._characters_max])
        inputs = inputs_of(self._session, encoding.ids, types=encoding.type_ids)
        (given,) = self._session.run([self._output], inputs)
        (score,) = np.asarray(given, dtype=np.float32).reshape(-1)
        return float(score)


@asynccontextmanager
async def open_folder_reranker(path: Path) -> AsyncIterator[FolderReranker]:
    """The cross-encoder of a folder, tried. Raises ConfigurationError, naming what is missing or is not one."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rerank") as executor:

        def load() -> FolderReranker:
            return FolderReranker(look_into(path), executor=executor)

        reranker = await asyncio.get_running_loop().run_in_executor(executor, load)
        try:
            await reranker.score("word", ["word"])
        except Exception as error:  # onnxruntime's errors share no base class
            raise ConfigurationError(
                f"The model of {path} gives no score for a question and a passage: {str(error)[:300]}. A cross-encoder with one "
                "output is needed."
            ) from error
        yield reranker
