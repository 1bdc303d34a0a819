"""Text as it may be stored, searched, shown to a model, to a person and to a terminal: nothing hidden in it.

Invisible characters carry instructions past the reader (tag characters, variation selectors, zero-width joins), turn text
around (bidi controls) or drive a terminal (escape sequences). All of them go, at every door: where text comes in (titles and
names when a document is changed, content when it is parsed) and where it goes out (what a model says, passages, errors).

Three kinds of invisible characters mean something to readers and stay exactly where they do:

* one zero-width joiner or non-joiner between two characters of a script that joins (Arabic, Indic and their relatives),
* one zero-width joiner between two emoji,
* one variation selector 15 or 16 right after an emoji.

Everywhere else they go, as do tag characters (flags of regions become the plain black flag), the ideographic variation
selectors, left-to-right marks and soft hyphens: what they add to a text nobody misses in an answer.

Of combining marks in a row that are out of order only ``MARKS_MAX`` stay: no language has more, and Python's sorting of them
takes quadratic time.
What this does not do: judge visible text, or fold look-alike letters.
"""

import re
import unicodedata
from functools import lru_cache

MARKS_MAX = 30  # the stream-safe text format, Unicode Standard Annex 15, section 13

_LINE_ENDS = r"\r\v\f\x85\u2028\u2029"
_HIDDEN = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"  # controls; those that introduce a sequence go with it where it is whole
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiners, fillers
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f"  # zero width, bidi controls, invisible operators
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"  # fillers, variation selectors, byte order mark
    "\ud800-\udfff"  # halves of characters: no encoding can write them
    "\U000e0000-\U000e0fff"  # tags and the second set of variation selectors
)
_JOINING = (  # Arabic to Thaana, Indic, Tibetan and Myanmar, Khmer and Mongolian, their extensions, Brahmi and its relatives
    "\u0600-\u061b\u061d-\u0dff\u0f00-\u109f\u1780-\u17b3\u17b6-\u180a\u1810-\u18af\ua8e0-\ua8ff\ua980-\ua9df\uaa60-\uaa7f"
    "\uabc0-\uabff\U00011000-\U0001147f"
)
_EMOJI = (  # emoji-data.txt (Unicode 16), digits and marks of ASCII left out
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u24c2"
    "\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u27bf\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297"
    "\u3299\U0001f000-\U0001faff"
)
# Every pattern begins with one class, which the engine looks for fast; what stands before a joiner is asked for behind it.
_JOINS = rf"(?<=[{_JOINING}][\u200c\u200d])"
_JOINS_EMOJI = rf"(?:(?<=[{_EMOJI}]\u200d)|(?<=[{_EMOJI}][\ufe0e\ufe0f]\u200d))"

# ECMA-48: CSI (5.4), OSC and the other strings (5.6), and two-character escapes. Strings count only when terminated, so
# that a stray introducer cannot swallow the rest of the text.
_CSI = r"(?:(?<=\x1b)\[|(?<=\x9b))[0-?]{0,64}+[ -/]{0,8}+"
_STRING = r"(?:(?<=\x1b)[\]PX^_]|(?<=[\x90\x98\x9d-\x9f]))[^\x07\x1b\x90\x98\x9c-\x9f\n]{0,2048}+"
_PAIR = r"(?<=\x1b)[ -/]{0,8}+"

_KEPT = rf"{_JOINS}(?=[{_JOINING}])|{_JOINS_EMOJI}(?=[{_EMOJI}])|(?<=[{_EMOJI}][\ufe0e\ufe0f])"
_GONE = rf"{_CSI}[@-~]|{_STRING}(?:\x07|\x1b\\|\x9c)|{_PAIR}[0-~]|"
_DECIDED = rf"(?P<kept>{_KEPT})|(?P<line>(?<=\r)\n|(?<=[{_LINE_ENDS}]))|{_GONE}"
_OPEN = rf"(?P<open>(?:{_CSI}|{_PAIR}|{_STRING}\x1b?|(?<=\r)|{_JOINS}|{_JOINS_EMOJI})\Z)"
_ANY = re.compile(f"[{_HIDDEN}{_LINE_ENDS}]")
_WHOLE = re.compile(f"[{_HIDDEN}{_LINE_ENDS}](?:{_DECIDED})")
_GROWING = re.compile(f"[{_HIDDEN}{_LINE_ENDS}](?:{_OPEN}|{_DECIDED})")
"""The same in a text that may go on: ``open`` is what only its continuation decides."""

CONTEXT_CHARACTERS = 2
"""How far back it matters what stands before: an emoji and its variation selector."""


def clean(text: str) -> str:
    """The text in NFC with line feeds as its only line ends, and no hidden character in it. Idempotent; linear time."""
    if text.isascii():
        return text if text.isprintable() else _WHOLE.sub(_shown, text)
    text = _WHOLE.sub(_shown, text)
    if unicodedata.is_normalized("NFC", text):
        return text
    few = _long_runs().sub(_fewer_marks, text)
    return _long_runs().sub(_fewer_marks, unicodedata.normalize("NFC", few))


def escaped(json: str) -> str:
    """JSON with every hidden character as its escape: the same value, and nothing that a terminal obeys."""
    return _ANY.sub(_escape, json)


class CleanStream:
    """`clean` for a text that comes in pieces, cut anywhere; without NFC, which no reader of a stream needs.

    What has been given back is never wrong: the beginning of an escape sequence waits for its end, for at most 2 kB. Whatever
    the cuts, the pieces add up to the same text.
    """

    def __init__(self) -> None:
        self._before = ""
        """The last characters that are decided: what may stand beside a joiner."""
        self._open = ""

    def feed(self, text: str) -> str:
        """What can be shown now."""
        if not self._open and text.isascii() and text.isprintable():
            self._before = ""  # nothing in it stands beside a joiner
            return text
        return self._clean(_GROWING, text)

    def flush(self) -> str:
        """What is left when the text has ended."""
        return self._clean(_WHOLE, "")

    def _clean(self, pattern: re.Pattern[str], text: str) -> str:
        whole = f"{self._before}{self._open}{text}"
        shown, at = [], len(self._before)
        end = len(whole)
        for match in pattern.finditer(whole, at):
            shown.append(whole[at : match.start()])
            if match.lastgroup == "open":
                at = end = match.start()
                break
            shown.append(_shown(match))
            at = match.end()
        shown.append(whole[at:end])
        self._before, self._open = whole[max(0, end - CONTEXT_CHARACTERS) : end], whole[end:]
        return "".join(shown)


def _escape(match: re.Match[str]) -> str:
    units = match.group().encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _shown(match: re.Match[str]) -> str:
    """What stays of something found."""
    if match.lastgroup == "line":
        return "\n"
    return match.group() if match.lastgroup == "kept" else ""


@lru_cache(maxsize=1)
def _long_runs() -> re.Pattern[str]:
    """More characters in a row than a text has marks; of those beyond the basic plane, any may be one."""
    marks = "".join(chr(code) for code in range(0x10000) if unicodedata.combining(chr(code)))
    one = f"[{marks}\U00010000-\U0010ffff]"
    return re.compile(f"{one}{one}{{{MARKS_MAX - 1}}}{one}++")


def _fewer_marks(run: re.Match[str]) -> str:
    kept, marks = [], 0
    for one in run.group():
        marks = marks + 1 if unicodedata.combining(one) else 0
        if marks <= MARKS_MAX:
            kept.append(one)
    return "".join(kept)
