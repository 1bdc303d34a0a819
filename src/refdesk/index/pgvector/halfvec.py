"""pgvector's ``halfvec`` on the wire, packed by numpy: thousands of vectors a second without a Python loop over numbers.

Binary form of one value: dimensions (int16), zero (int16), then the numbers as float16, all big-endian.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"

HASH_BYTES = 32


def to_text(vector: NDArray[np.float32]) -> str:
    """One vector as a literal: a parameter to cast to ``halfvec``."""
    return msgspec.json.encode(vector.tolist()).decode()


def from_binary(value: bytes) -> NDArray[np.float32]:
    """One vector as it comes in a binary result."""
    return np.frombuffer(value, dtype=">f2", offset=4).astype(np.float32)


def copy_rows(key: int, hashes: Sequence[bytes], vectors: NDArray[np.float32]) -> bytes:
    """Rows (bigint, bytea of 32 bytes, halfvec) for a binary COPY. vectors: (len(hashes), dimensions) float32."""
    dimensions = vectors.shape[1]
    row = np.dtype(
        [
            ("columns", ">i2"),
            ("key_bytes", ">i4"),
            ("key", ">i8"),
            ("hash_bytes", ">i4"),
            ("hash", f"V{HASH_BYTES}"),
            ("vector_bytes", ">i4"),
            ("dimensions", ">i2"),
            ("zero", ">i2"),
            ("vector", ">f2", (dimensions,)),
        ]
    )
    rows = np.zeros(len(hashes), dtype=row)
    rows["columns"], rows["key_bytes"], rows["key"] = 3, 8, key
    rows["hash_bytes"], rows["hash"] = HASH_BYTES, np.frombuffer(b"".join(hashes), dtype=f"V{HASH_BYTES}")
    rows["vector_bytes"], rows["dimensions"], rows["vector"] = 4 + 2 * dimensions, dimensions, vectors
    return COPY_HEADER + rows.tobytes() + COPY_TRAILER
