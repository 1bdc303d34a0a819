"""Texts to vectors: the port, and the packaged MiniLM on this machine's own processor (a server: `server`).

The packaged model runs as a graph on onnxruntime, int8 unless fp32 is asked for, one text per run, one thread per run,
as many runs at once as there are threads (`Turns`). Measured, a batch gains nothing on a processor: padding is work, a
large batch leaves the cache, and int8 scales follow the largest value of the whole input, so that a text's neighbours
would change its vector. Alone, a text has one vector for ever, and a question waits for one text at most. The graph is
made once, by a child process (`prepared`).

What this does not do: retry. A failed call raises, with ``retryable`` telling what to do about it.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import numpy as np
from tokenizers import Encoding, Tokenizer

from refdesk.contracts.errors import ConfigurationError
from refdesk.contracts.scripts import is_unspaced
from refdesk.outside.embedding.prepared import INT8, locate_model, prepare
from refdesk.outside.embedding.vectors import Encoded, Vectors, stacked, unit, unread
from refdesk.outside.inference import InferenceSession, SessionOptions

T = TypeVar("T")

TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
WINDOW_TOKENS = 256
"""The window the model was trained with, its two markers included (sentence_bert_config.json)."""

CHARACTERS_MAX = 16 * WINDOW_TOKENS
"""What is looked at of a text that is embedded: far more than a window of the longest ordinary words."""

TEXTS_PER_THREAD = 4
"""Of a call: about 40 ms, in which nobody else's text gets its turn."""

_CLS, _SEP = 101, 102


class Turns(msgspec.Struct, frozen=True, kw_only=True):
    """How the packaged model's texts take turns: so many threads, each with so many texts at a time.

    One at a time lets a question wait for one text at most; several spare a thread the way back to the event loop.
    """

    threads: int = 1
    texts: int = 1


class Embedder(Protocol):
    """Turns texts into vectors of one space.

    ``name`` identifies the space: vectors of different names are never compared. ``tokens_max`` is how many tokens of
    a text are read, as `count_tokens` counts; what comes after is cut off.
    """

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def tokens_max(self) -> int: ...

    @property
    def provider(self) -> str:
        """Who computes, as telemetry names it."""
        ...

    @property
    def call_texts(self) -> int:
        """How many texts to give `embed` at a time when others wait for it, too: more gain nothing."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors: (n, dimensions) float32, L2-normalised; n = len(texts), same order. Any text will do, even "".

        Leaves the event loop free. Raises `Unavailable` when the model does not answer for now.
        """
        ...

    async def embed_questions(self, texts: Sequence[str]) -> Vectors:
        """The same for questions that are to find passages: some models want something said before them.

        Zeros where the model knows that it cannot read a question: the words alone rank then.
        """
        ...

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """What `embed` gives, and the vectors of the tokens: one pass of the model for both."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without the model's own markers. CPU work: call it off the event loop."""
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token stands in the text: (start, end) in characters, ascending. CPU work.

        ``text[spans[i][0]:spans[j - 1][1]]`` is a window of ``j - i`` tokens, give or take a word cut in two.
        """
        ...


async def in_turns(
    work: Callable[[str], T], texts: Sequence[str], *, executor: ThreadPoolExecutor, turns: Turns
) -> list[T]:
    """What the work makes of each text, as many at once as there are threads, in turn with the texts of others."""
    loop = asyncio.get_running_loop()

    def some_of(texts: Sequence[str]) -> list[T]:
        return [work(text) for text in texts]

    if len(texts) == 1:  # a question: nothing to take turns with
        return await loop.run_in_executor(executor, some_of, texts)
    made: dict[int, list[T]] = {}
    firsts = iter(range(0, len(texts), turns.texts))

    async def take_turns() -> None:
        for first in firsts:
            made[first] = await loop.run_in_executor(executor, some_of, texts[first : first + turns.texts])

    async with asyncio.TaskGroup() as group:
        for _ in range(min(turns.threads, len(texts))):
            group.create_task(take_turns())
    return [one for first in sorted(made) for one in made[first]]


class PackagedEmbedder:
    """all-MiniLM-L6-v2 from its wheel, on this machine's processor. See `open_packaged_embedder`.

    It reads English, and a little of what looks like it. Its vectors of scripts without spaces are chance: what is written in
    those is `unread`, and questions have vectors of zeros, so that words alone find passages and choose what is quoted.
    """

    dimensions = 384
    tokens_max = WINDOW_TOKENS - 2
    provider = "refdesk"

    def __init__(self, graph: Path, tokenizer: Path, *, name: str, executor: ThreadPoolExecutor, turns: Turns) -> None:
        self.name = name
        self._tokenizer = load_tokenizer(tokenizer)
        self._session = open_session(graph)
        self._executor = executor
        self._turns = turns
        self.call_texts = TEXTS_PER_THREAD * turns.threads

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = await in_turns(self._embed, texts, executor=self._executor, turns=self._turns)
        return stacked(vectors, dimensions=self.dimensions)

    async def embed_questions(self, texts: Sequence[str]) -> Vectors:
        vectors = await self.embed(texts)
        vectors[[is_unspaced(text) for text in texts]] = 0
        return vectors

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return await in_turns(self._encode, texts, executor=self._executor, turns=self._turns)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(read) for read in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [(start, end) for start, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    def _embed(self, text: str) -> Vectors:
        (vector,) = self._run(["embedding"], self._read(text).ids)
        return vector

    def _encode(self, text: str) -> Encoded:
        if is_unspaced(text):
            return unread(self.dimensions)
        read = self._read(text)
        vector, tokens = self._run(["embedding", "tokens"], read.ids)
        return Encoded(vector, unit(tokens[1:-1]), read.offsets)

    def _read(self, text: str) -> Encoding:
        """What the model reads of the text, without its markers."""
        read = self._tokenizer.encode(text[:CHARACTERS_MAX], add_special_tokens=False)
        read.truncate(self.tokens_max)
        return read

    def _run(self, outputs: list[str], tokens: list[int]) -> list[Vectors]:
        input_ids = np.array([[_CLS, *tokens, _SEP]], dtype=np.int32)
        inputs = {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids)}
        return [np.asarray(output)[0] for output in self._session.run(outputs, inputs)]


@asynccontextmanager
async def open_packaged_embedder(
    *folders: Path, name: str = INT8, turns: Turns | None = None
) -> AsyncIterator[PackagedEmbedder]:
    """The packaged model in one of its precisions (``PACKAGED``), ready.

    Its file is looked for in the folders, in their order; the first call on a machine makes it, which takes some seconds
    (`prepared`). One that does not load is made anew.
    Raises `ConfigurationError` when the model's package is missing or not what it should be.
    """
    model = locate_model()
    _verify(model / "tokenizer.json", TOKENIZER_SHA256)
    turns = turns or Turns()
    with ThreadPoolExecutor(max_workers=turns.threads, thread_name_prefix="embed") as executor:
        yield await _open(folders, model, name=name, executor=executor, turns=turns)


async def _open(
    folders: Sequence[Path], model: Path, *, name: str, executor: ThreadPoolExecutor, turns: Turns
) -> PackagedEmbedder:
    loop = asyncio.get_running_loop()

    def load(graph: Path) -> PackagedEmbedder:
        return PackagedEmbedder(graph, model / "tokenizer.json", name=name, executor=executor, turns=turns)

    graph = await prepare(folders, name=name)
    try:
        return await loop.run_in_executor(executor, load, graph)
    except ConfigurationError:
        return await loop.run_in_executor(executor, load, await prepare(folders, name=name, anew=graph))


def load_tokenizer(file: Path) -> Tokenizer:
    """It cuts and fills nothing, and markers inside a text are text."""
    return plain_tokenizer(Tokenizer.from_file(str(file)))


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """The same, made so."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "[SEP]" in a document is text, not a marker
    return tokenizer


def open_session(graph: Path) -> InferenceSession:
    """One thread a run, and no memory kept between runs. Raises ConfigurationError for a file that does not load."""
    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    try:
        return InferenceSession(
            str(graph),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],  # its operator is 6 times slower than the two it replaces
        )
    except Exception as error:  # onnxruntime's errors share no base class
        raise ConfigurationError(
            f"The model file {graph.name} does not load. Fetch it again; one that Refdesk has made, delete."
        ) from error


def _verify(file: Path, digest: str) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != digest:
        raise ConfigurationError(f"{file.name} has sha256 {found}; expected {digest}. Install the model package again.")
