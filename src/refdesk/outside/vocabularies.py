"""Counting tokens exactly, with the vocabulary of the model itself: a local `tokenizer.json`, as models are published with.

Without one the estimates of `tokens` stay. What a chat template adds around messages is not the vocabulary's to know.
"""

from importlib import import_module
from pathlib import Path

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.tokens import CountTokens


def open_vocabularies(files: str | None) -> list[CountTokens]:
    """A count for each of the files, which are separated by commas. Raises ConfigurationError."""
    names = [name.strip() for name in (files or "").split(",")]
    return [open_vocabulary(Path(name).expanduser()) for name in names if name]


def open_vocabulary(file: Path) -> CountTokens:
    """A count of the tokens of a text, whatever it says: markers inside it are text. Raises ConfigurationError."""
    if not file.is_file():
        raise ConfigurationError(
            f"{file} is not there. REFDESK_LLM_TOKENIZER names the model's tokenizer.json; unset it to count by estimate."
        )
    try:
        tokenizer = import_module("tokenizers").Tokenizer.from_file(
            str(file)
        )  # here: the command line starts without it
    except Exception as error:  # the library raises nothing narrower
        raise ConfigurationError(
            f"{file} cannot be read as a tokenizer ({error}). REFDESK_LLM_TOKENIZER names the model's tokenizer.json; "
            "fetch it again, or unset it to count by estimate."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))
