"""A conversation as a file: Markdown that reads well anywhere. What models and documents have said stays as it is, as text.

A citation ``[1]`` becomes ``[^2-1]``: the first source of the second answer, which stands below the conversation with its place.
"""

import re

import msgspec

from refdesk.answering.conversations.browsing import ConversationPage, ConversationTurn
from refdesk.contracts.answers import Source
from refdesk.contracts.hidden_characters import clean

_CITED = re.compile(r"\[(\d{1,3})\]")
_STATES = {
    "withdrawn": "This answer was withdrawn: it stands on a document that was deleted, or closed to you.",
    "running": "This answer is still being written.",
    "failed": "This answer was not completed.",
}


def as_markdown(conversation: ConversationPage) -> str:
    """Each question a heading, its answer below it, the sources of all at the end."""
    parts = [f"# {_line(conversation.title)}"]
    notes = []
    for number, turn in enumerate(conversation.turns, 1):
        parts += [f"## {_line(turn.question)}", f"*{turn.asked_at:%Y-%m-%d %H:%M} UTC*", *_answer(turn, number)]
        notes += _notes(turn, number)
    return "\n\n".join(parts) + "\n" + ("\n" + "\n".join(notes) + "\n" if notes else "")


def _answer(turn: ConversationTurn, number: int) -> list[str]:
    said = _CITED.sub(lambda cited: f"[^{number}-{cited[1]}]", turn.text).strip()
    state = _STATES.get(turn.status)
    return [part for part in (said, state and f"*{state}*") if part]


def _notes(turn: ConversationTurn, number: int) -> list[str]:
    """The sources that the answer cites."""
    cited = set(_CITED.findall(turn.text))
    sources = msgspec.json.decode(turn.sources, type=list[Source])
    return [f"[^{number}-{one.n}]: {_place(one)}" for one in sources if str(one.n) in cited]


def _place(source: Source) -> str:
    page = f", page {source.page}" if source.page else ""
    heading = f", {_line(source.heading)}" if source.heading else ""
    url = f" <{source.url}>" if source.url else ""
    return f"{_line(source.title)}{heading}{page} (version {source.version}){url}"


def _line(text: str) -> str:
    """On one line, nothing hidden in it."""
    return " ".join(clean(text).split())
