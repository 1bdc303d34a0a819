"""Text as it may be stored, searched and shown to a model: nothing hidden in it.

Invisible characters carry instructions past the reader (tag characters, variation selectors, zero-width joins), turn text
around (bidi controls) or drive a terminal (escape sequences). None of them helps anyone to find a passage, so all of them
go, at the two doors where text comes in: titles and names when a document is changed, content when it is parsed. What it
does not do: judge visible text, or fold look-alike letters.
"""

import re
import unicodedata

_NEWLINES = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")

_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9a\x9c-\x9f"  # controls; ESC and the one-byte CSI go with their sequences
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiners, fillers
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f"  # zero width, bidi controls, invisible operators
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"  # fillers, variation selectors, byte order mark
    "\ud800-\udfff"  # halves of characters: no encoding can write them
    "\U000e0000-\U000e0fff"  # tags and the second set of variation selectors
    "]+"
)

# ECMA-48: CSI (5.4), OSC and the other strings (5.6), and two-character escapes. Strings count only when terminated, so
# that a stray introducer cannot swallow the rest of the text.
_ESCAPES = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    "|\x1b[\\]PX^_][^\x07\x1b\n]{0,2048}(?:\x07|\x1b\\\\)"
    "|\x1b[ -/]{0,8}[0-~]"
    "|[\x1b\x9b]"
)
_MARKS = re.compile("[\x1b\x9b]")


def clean(text: str) -> str:
    """The text in NFC with line feeds as its only line ends, and no hidden character in it. Idempotent."""
    if text.isascii() and text.isprintable():
        return text
    text = _HIDDEN.sub("", _NEWLINES.sub("\n", text))
    if _MARKS.search(text):
        text = _MARKS.sub("", _ESCAPES.sub("", text))
    return unicodedata.normalize("NFC", text)
