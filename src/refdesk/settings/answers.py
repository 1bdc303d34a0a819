"""Questions and their answers."""

from typing import Annotated

import msgspec
from msgspec import Meta

from refdesk.settings.kinds import Count, Seconds, Whole, prefixed


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Answers.

    Another value of any of these answers anew what was answered before.
    """

    certainty_min: Annotated[float, Meta(ge=0, le=1)] = 0.32
    """How probable it must be that quotes answer the question; below it they are shown as the closest passages."""
    follow_up_rewrite_s: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds a language model may take to write a follow-up ("And in winter?") out in full, before it is searched for.
    0: no model is asked, and what is found tells what it leans on."""
    passages_max: Count = 8
    """Passages a language model reads for an answer."""


class Questions(msgspec.Struct, frozen=True, kw_only=True):
    """Questions."""

    question_tokens_max: Count = 500
    """The longest question."""
    output_tokens_max: Count = 1024
    """The most a request may ask for."""
    output_tokens_default: Count = 512
    """The longest answer when a request does not say."""
    wait_seconds_max: Seconds = 30.0
    """The longest `wait_seconds` a question may ask for."""
    waiting_for_documents_per_principal_max: Count = 16
    """Questions and searches of one principal that may wait for a document (`after`) at a time, per process."""
    truth_timeout_s: Seconds = 0.5
    """How long an answer waits for the Document Service's word on its passages before it looks at the record of changes."""


class Keeping(msgspec.Struct, frozen=True, kw_only=True):
    """Keeping answers."""

    answer_retention_s: Count = 24 * 3600
    """How long an answer can be resumed, and re-read if it belongs to no conversation."""
    similarity_min: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Set it (0.95, say) to reuse answers to similar questions on the same passages. Unset: only to the same question."""
    feedback_days_kept: Count = 400
    """How long ratings are kept, with their questions."""


class Graces(msgspec.Struct, frozen=True, kw_only=True):
    """Answers that nobody reads any more."""

    single_s: Seconds = msgspec.field(default=0.5, name="disconnect_grace_s")
    """How long an answer whose readers have all left goes on, in case one comes back."""
    in_conversation_s: Seconds = msgspec.field(default=20.0, name="conversation_grace_s")
    """The same for an answer in a conversation: whoever reloads the page, or takes up another device, finds it again."""


class Conversations(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("conversation_")):
    """Conversations."""

    kept: bool = msgspec.field(default=True, name="conversations_kept")
    """Whether questions asked in a conversation are kept, with their answers, for whoever asked them. False keeps no new ones."""
    retention_s: Count = 180 * 24 * 3600
    """How long they are kept."""
    turns_max: Count = 200
    """Questions of one conversation that are kept; the oldest go."""
    answers_unwritten_max: Count = 2000
    """Answers of conversations that one process may have waiting to be written; others are written a little later."""
    sweep_s: Annotated[float, Meta(gt=0)] = 60.0
    """How often all kept answers are compared with the documents, so that those on deleted ones are erased."""


class GapLimits(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("gap_")):
    """Gaps: questions that the documents do not answer."""

    kept: bool = msgspec.field(default=True, name="gaps_kept")
    """Whether questions without an answer, or with a bad one, are kept for curators and put together into gaps."""
    days_kept: Count = 90
    """How long."""
    gaps_max: Count = msgspec.field(default=1000, name="gaps_max")
    """Gaps that are kept; those that nobody has asked for the longest time go."""
    similarity_min: Annotated[float, Meta(ge=0, le=1)] = 0.7
    """How alike (cosine) a question is to those of a gap that it joins."""
    interval_s: Annotated[float, Meta(gt=0)] = 30.0
    """How often questions are put into gaps, and new documents are asked whether they fill any."""


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's format and MCP."""

    sources_in_text: bool = True
    """Whether an answer at `/v1` ends with a readable list of its sources; `annotations` name them in any case."""
    history_turns_max: Whole = 6
    """Earlier questions with their answers that are read of a chat, the newest; older ones are passed over."""
    history_characters_max: Count = 2000
    """What is read of each of their messages."""
    style_characters_max: Count = 4000
    """System and developer messages together; they are wishes of style and no more."""


class EmbeddingCalls(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("embedding_")):
    """Calls to `/v1/embeddings`."""

    texts_max: Count = 2048
    """Texts of one call to `/v1/embeddings`. Each counts as a search."""
    body_bytes_max: Count = 4 << 20
    """The largest body of such a call."""
    concurrent_max: Count = msgspec.field(default=2, name="concurrent_embeddings_max")
    """Such calls that one process works on at a time; others wait as searches do."""
