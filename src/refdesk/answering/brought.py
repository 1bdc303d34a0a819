"""What a request may bring beside its question, where the client keeps the conversation: what was said, and wishes.

Both are the asker's own words. They shape how the question is understood and how the answer is worded; no answer stands on them.
"""

import msgspec

from refdesk.answering.conversations.turns import Turn


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """``turns``, oldest first, take the place of those of a conversation that is kept here."""

    turns: tuple[Turn, ...] = ()
    style: str = ""


NOTHING = Brought()
