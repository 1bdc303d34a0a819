"""Is this text, and in which form of Unicode, judged by its beginning."""

import unicodedata

_SAMPLE_BYTES = 64 * 1024


def text_encoding(head: bytes) -> str | None:
    """The character encoding of a text, judged by its beginning; None when it is no text at all.

    Windows-1252 stands for every 8-bit encoding: without a declaration they cannot be told apart.
    """
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\x00\x00\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if head.startswith(mark):
            return encoding
    sample = head[:_SAMPLE_BYTES]
    if wide := _utf16_without_mark(sample):
        return wide
    # Text holds no control characters; a few stray ones are forgiven. Compressed data has 11 % (28 of 256 codes).
    if _is_utf8(sample) and _control_share(sample) <= 0.1:
        return "utf-8"
    if wide := _utf16_of_any_script(sample):
        return wide
    return "cp1252" if not _is_utf8(sample) and _control_share(sample) <= 0.01 else None


def _utf16_without_mark(sample: bytes) -> str | None:
    pairs = len(sample) // 2
    if pairs < 2:
        return None
    if sample[1::2].count(0) > 0.6 * pairs and sample[::2].count(0) < 0.1 * pairs:
        return "utf-16-le"
    if sample[::2].count(0) > 0.6 * pairs and sample[1::2].count(0) < 0.1 * pairs:
        return "utf-16-be"
    return None


def _utf16_of_any_script(sample: bytes) -> str | None:
    """Cyrillic, Chinese and their like: of a space, a figure or a line end one byte is NUL, nearly always the same."""
    for codec, upper, lower in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        even = sample[: len(sample) // 2 * 2]
        if even[upper::2].count(0) <= 2 * even[lower::2].count(0):
            continue
        text = even.decode(codec, errors="replace")
        if sum(map(_is_ordinary, text)) >= 0.98 * len(text):
            return codec
    return None


def _is_ordinary(character: str) -> bool:
    return character in "\t\n\r\ufeff" or (character != "\ufffd" and unicodedata.category(character)[0] in "LMNPSZ")


_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\r\f\x1b") + b"\x7f"


def _control_share(sample: bytes) -> float:
    return (len(sample) - len(sample.translate(None, _CONTROL))) / len(sample) if sample else 0.0


def is_clean_text(sample: bytes) -> bool:
    return _control_share(sample) == 0.0 and _is_utf8(sample)


def _is_utf8(sample: bytes) -> bool:
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and len(sample) - error.start < 4  # a character cut in two
    return True
