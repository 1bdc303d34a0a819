"""A language model's reply, read by read: lines of server-sent events, or one JSON object where a server does not stream."""

from collections.abc import Callable, Sequence

import msgspec

from refdesk.contracts.answers import Usage
from refdesk.contracts.errors import ModelFailed
from refdesk.outside.llm.chunks import ChunkReader, Piece
from refdesk.outside.llm.clocks import Deadline
from refdesk.outside.llm.errors import LlmFiltered, LlmOnlyThought
from refdesk.outside.llm.thinking import Thinking
from refdesk.outside.tokens import output_tokens

LINE_BYTES_MAX = 1 << 20
WHOLE_BYTES_MAX = 1 << 22
"""The longest reply that is no stream."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

OnTexts = Callable[[Sequence[str]], bool]
"""Is given the texts of the chunks that one network read has brought, and says whether it wants more."""


class Told(msgspec.Struct):
    """What a model tells beside its words, as far as it has."""

    finish_reason: str | None = None
    """`stop`, `length`, `content_filter`, or a word of the server's own."""
    usage: Usage | None = None
    model: str | None = None
    response_id: str | None = None
    thought_tokens: int = 0
    """What it has thought, by our count; no part of the texts."""
    thought_aloud: bool = False
    """The texts begin with what was thought."""


def require_answer(told: Told, text: str) -> None:
    """Raises ModelFailed unless the model has come to an end of its own, or to its limit, with a word in it."""
    reason = told.finish_reason
    if reason == "content_filter":
        raise LlmFiltered
    if reason not in ("stop", "length"):
        raise ModelFailed(f"The model ended its answer with {reason!r}.")
    if told.thought_aloud:
        raise ModelFailed("The model's thoughts came as its answer. From now on they are hidden: ask again.")
    if not text.strip():
        if told.thought_tokens:
            raise LlmOnlyThought(
                f"The model thought for {told.thought_tokens} tokens and ended without an answer. Turn its reasoning down or "
                "off, or raise REFDESK_LLM_THINKING_TOKENS_MAX."
            )
        raise ModelFailed("The model ended its answer without a word.")


class Stream:
    """One reply. ``is_whole``: it is one JSON object. ``thinking_tokens_max`` bounds what is thought, wherever it comes."""

    def __init__(
        self,
        on_texts: OnTexts,
        told: Told,
        deadline: Deadline,
        *,
        is_whole: bool = False,
        thinking: Thinking | None = None,
        thinking_tokens_max: int = 1 << 30,
    ) -> None:
        self.over = False
        """Whether the model has finished, or nobody wants more of it."""
        self.has_words = False
        self._wanted = True
        self._on_texts = on_texts
        self._told = told
        self._deadline = deadline
        self._is_whole = is_whole
        self._thinking = thinking or Thinking()
        self._thinking_tokens_max = thinking_tokens_max
        self._thought_beside = 0
        """Tokens thought in fields of their own."""
        self._chunks = ChunkReader()
        self._rest: list[bytes] = []
        """Of a line whose end has not come."""
        self._rest_bytes = 0
        self._has_begun = False

    def on_bytes(self, data: bytes) -> bool:
        """Whether there is more to come."""
        if self._is_whole:
            self._keep(data, bytes_max=WHOLE_BYTES_MAX)
            return True
        return self._hear(self._lines(data))

    def end(self) -> None:
        """Takes what is left when no more will come."""
        rest, self._rest = b"".join(self._rest), []
        if self._is_whole:
            self._hear([b"data:" + rest])
            if self._has_begun and not self.over:
                self._finish("stop")
        elif rest and not self.over:
            self._hear([rest])
        text = self._thinking.rest(is_complete=self._told.finish_reason != "length")
        if text and self._wanted:
            self.has_words = True
            self._on_texts([text])
        self._told.thought_aloud = self._thinking.was_aloud
        self._count_thoughts()

    def _lines(self, data: bytes) -> list[bytes]:
        """Those that have come to their end. Linear, however small the pieces are."""
        if b"\r" in data:
            data = data.replace(b"\r", b"\n")  # each of CR, LF and CRLF ends a line; empty ones do not matter
        ended, end, rest = data.rpartition(b"\n")
        if not end:
            self._keep(rest, bytes_max=LINE_BYTES_MAX)
            return []
        whole = b"".join((*self._rest, ended)) if self._rest else ended
        self._rest, self._rest_bytes = [rest] if rest else [], len(rest)
        if not self._has_begun:
            self._has_begun, whole = True, whole.removeprefix(BYTE_ORDER_MARK)
        return whole.split(b"\n")

    def _keep(self, data: bytes, *, bytes_max: int) -> None:
        self._has_begun = self._has_begun or (self._is_whole and bool(data))
        self._rest.append(data)
        self._rest_bytes += len(data)
        if self._rest_bytes > bytes_max:
            raise ModelFailed("The model sent something that is not an OpenAI stream: a line without an end.")

    def _hear(self, lines: Sequence[bytes]) -> bool:
        """Whether there is more to come after these lines."""
        texts: list[str] = []
        is_open = True
        for line in filter(None, lines):
            content = line[5:].strip() if line.startswith(b"data:") else line if line.startswith(b"{") else b""
            if content == b"[DONE]":
                is_open = False
                if not self.over:
                    self._finish(self._told.finish_reason or "stop")
                break
            if content:
                self._learn(self._chunks.read(content), texts)
        self.has_words = self.has_words or bool(texts)
        if texts and not self._on_texts(texts):
            self.over, self._wanted, is_open = True, False, False
        return is_open

    def _learn(self, piece: Piece, texts: list[str]) -> None:
        """Adds the piece's words to the texts, and keeps what it tells."""
        told = self._told
        if piece.text or piece.thought:
            self._deadline.heard()
        shown = self._thinking.read(piece.text) if piece.text else ""
        if shown:
            texts.append(shown)
        if piece.thought or not shown:
            self._thought_beside += output_tokens(piece.thought) or bool(piece.thought)
            self._count_thoughts()
        if piece.usage is not None:
            told.usage = piece.usage
        if not told.model and isinstance(piece.model, str):
            told.model = piece.model or None
        if not told.response_id and isinstance(piece.response_id, str):
            told.response_id = piece.response_id or None
        if piece.finish_reason is not None:
            self._finish(piece.finish_reason)

    def _count_thoughts(self) -> None:
        thought = self._told.thought_tokens = self._thought_beside + self._thinking.tokens
        if thought > self._thinking_tokens_max:
            raise LlmOnlyThought(
                f"The model thought for more than {self._thinking_tokens_max} tokens (REFDESK_LLM_THINKING_TOKENS_MAX). Turn its "
                "reasoning down or off, or raise that limit."
            )

    def _finish(self, reason: str) -> None:
        self._told.finish_reason = reason
        self.over = True
        self._deadline.over()
