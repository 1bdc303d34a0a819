"""Indexing, and what it puts into the index."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from refdesk.settings.kinds import Count, Port, Seconds, prefixed


class Indexing(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("index_")):
    """Indexing."""

    concurrency: Count = 6
    """Documents one indexer works on at a time, large ones aside."""
    aside_max: Count = 200
    """Large documents that may be under way, or wait for their turn, beside these."""
    niceness: Annotated[int, Meta(ge=0, le=19)] = 10
    """How much indexing, reading documents included, stands back where processors are busy (Unix niceness)."""
    attempts_max: Count = 5
    """How often a document is tried before it is given up as failed."""
    outage_pause_s_max: Seconds = msgspec.field(default=15.0, name="outage_pause_s_max")
    """The longest pause between two tries of a document while a part that indexing needs is away."""
    chunks_max: Count = msgspec.field(default=20_000, name="chunks_max")
    """Chunks one document may have."""
    dead_letter_log_characters_max: Count = msgspec.field(default=10_000, name="dead_letter_log_characters_max")
    """What is kept of the log of a document that was given up; its end, which is what tells."""
    reconcile_interval_s: Seconds = msgspec.field(default=3600.0, name="reconcile_interval_s")
    """How often the index is compared with the documents, and mended where they differ."""


class LaneSettings(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("index_")):
    """Documents by their size."""

    bytes_small: Count = msgspec.field(default=1 << 20, name="index_small_bytes_max")
    """The largest document that is read at once; of larger ones, one at a time."""
    chunks_small: Count = msgspec.field(default=64, name="index_small_chunks_max")
    """The largest document that is embedded at once; larger ones wait for a place."""
    chunks_medium: Count = msgspec.field(default=1024, name="index_medium_chunks_max")
    """The largest document that waits for no large one."""
    places: Count = msgspec.field(default=2, name="index_lane_places")
    """Documents of medium size embedded at a time; large ones have as many places of their own."""
    chunks_kept: Count = msgspec.field(default=20_000, name="index_chunks_kept_max")
    """Chunks in memory of documents that wait for a place; beyond it, a document is read again when its turn comes."""
    chunks_staged: Count = msgspec.field(default=256, name="index_part_chunks")
    """Chunks written at a time of a document that has more."""


class EmbeddingModel(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("embedding_")):
    """The embedding model.

    Unset: the packaged all-MiniLM-L6-v2. The index keeps the model it has until `refdesk reindex`.
    """

    url: str | None = None
    """Base URL of an OpenAI-compatible API that serves `/embeddings`. Needs `embedding_model`."""
    model: str | None = None
    """The model's name at that URL. Without a URL, the whole path of a folder with a model in ONNX, or `fastembed:NAME`
    ([better models](../howto/quality.md))."""
    api_key: str | None = None
    """The key that URL asks for, if it does."""
    tokens_max: Count = 512
    """How many tokens of a text that model reads."""
    previous_url: str | None = None
    """The server of the model that the index still has, while it moves to the one at `embedding_url`."""
    previous_api_key: str | None = None
    """The key that server asks for, if it does."""
    threads: Count = 1
    """Threads an indexer embeds with. One per core is best; the laptop keeps one core for people."""


class QdrantSettings(msgspec.Struct, frozen=True, kw_only=True, rename=prefixed("qdrant_")):
    """The vector database.

    Unset: the index is in PostgreSQL. The index stays where it is until `refdesk reindex`.
    """

    url: str | None = None
    """A Qdrant for vectors and text of the index, such as http://qdrant:6333; its ledger stays in PostgreSQL
    ([Qdrant](../howto/qdrant.md))."""
    api_key: str | None = None
    """The key it asks for, if it does. It must be one that may write."""
    grpc_port: Port | None = None
    """Its gRPC port, such as 6334: faster. Unset: everything goes over HTTP."""
    timeout_s: Annotated[float, Meta(ge=1)] = 10.0
    """How long one call to it may take."""
    prefix: Annotated[str, Meta(pattern=r"^\w+$")] = "refdesk"
    """How the names of its collections begin. Desks that share a Qdrant need one each."""
    shards: Count | None = None
    """Shards of a new collection. Unset: as many as Qdrant has nodes."""
    replicas: Count = 1
    """Nodes that keep each shard of a new collection: 2 outlive the loss of one of them."""
    on_disk: bool = False
    """Whether a new collection keeps its vectors on disk rather than in memory."""
    quantization: Literal["scalar", "binary"] | None = None
    """How a new collection compresses vectors in memory: `scalar` to a quarter, `binary` (for models of 1,024 dimensions and
    more) to a thirty-second. Unset: not at all."""
