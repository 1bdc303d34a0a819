"""Subtitles (SubRip, WebVTT): what is said, in paragraphs, each with the time at which it begins."""

import re
from collections.abc import Iterator
from html import unescape

from refdesk.indexing.parsed import Sink

_TIMES = re.compile(r"[ \t]*((?:\d{1,3}:)?\d\d:\d\d)[,.]\d{1,3}[ \t]*-->.*")
_TAG = re.compile(r"<v(?:\.[\w.-]*+)?[ \t]++([^<>]*+)>|</?[\w.:/ -]*+>|\{\\[^{}]*+\}")
_BLANK_LINE = re.compile(r"\n[ \t]*\n+")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]]*$")
_PARAGRAPH_CHARACTERS = 400
"""So long a paragraph ends with the next sentence."""


def read_subtitles(text: str, sink: Sink) -> None:
    """Cues go on in each other: a sentence is seldom one. Numbers, settings and comments are not read."""
    began, said = "", ""
    for time, words in _cues(text):
        if len(said) >= _PARAGRAPH_CHARACTERS and _SENTENCE_END.search(said):
            sink.add("paragraph", f"[{began}] {said}")
            said = ""
        began = began if said else time
        said = f"{said} {words}".strip()
    if said:
        sink.add("paragraph", f"[{began}] {said}")


def _cues(text: str) -> Iterator[tuple[str, str]]:
    """When each begins, and its words on one line, with the speaker where one is named."""
    for block in _BLANK_LINE.split(text):
        lines = block.split("\n")
        at = next((number for number, line in enumerate(lines) if _TIMES.fullmatch(line)), None)
        if at is None:
            continue
        time = _TIMES.fullmatch(lines[at])
        words = _TAG.sub(lambda tag: f"{tag[1].strip()}: " if tag[1] else "", " ".join(lines[at + 1 :]))
        if time and words.strip():
            yield time[1], " ".join(unescape(words).split())
