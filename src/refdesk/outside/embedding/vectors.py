"""What an embedding model makes of a text, whichever model it is."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Encoded(msgspec.Struct, frozen=True):
    """A text as a model reads it: ``vector`` (dimensions,) of the whole, ``tokens`` (n, dimensions) of each token in its context.

    All float32 and L2-normalised. ``spans`` are where the tokens stand in the text, as `Embedder.token_spans` has them. There are
    no tokens where the model does not tell them.
    """

    vector: Vectors
    tokens: Vectors
    spans: list[tuple[int, int]]


Encode = Callable[[Sequence[str]], Awaitable[list[Encoded]]]


def stacked(vectors: Sequence[Vectors], *, dimensions: int) -> Vectors:
    """(n, dimensions) float32."""
    return np.stack(vectors) if vectors else np.empty((0, dimensions), dtype=np.float32)


def unit(vectors: Vectors) -> Vectors:
    """The same, each of length one; one that is all zeros stays so."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def unread(dimensions: int) -> Encoded:
    """Of a text that the model cannot read: it is like no other."""
    return Encoded(np.zeros(dimensions, dtype=np.float32), np.empty((0, dimensions), dtype=np.float32), [])


def without_tokens(vectors: Vectors) -> list[Encoded]:
    """Of a model that tells no more than (n, dimensions) of the whole texts."""
    return [Encoded(vector, vectors[:0], []) for vector in vectors]
