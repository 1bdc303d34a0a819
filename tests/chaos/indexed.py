"""What an index has of a document, as the oracle reads it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Indexed:
    """A document as the index's tables have it."""

    key: int
    version: int
    removed: bool
    title: str
    readers: list[str]
    content_sha256: str
    sizes: tuple[int, int]
    chunks: list[tuple[Any, ...]] = field(default_factory=list)
    vectors: dict[bytes, list[float]] = field(default_factory=dict)
    postings: set[tuple[Any, ...]] = field(default_factory=set)
