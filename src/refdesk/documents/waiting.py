"""Why documents wait, and how many are ahead of them: read from the tables, so that it is true after any restart.

What the tables know comes from two sides. The outbox says whether the broker has taken the event. The indexers say, on the
stream INDEX, that they are at work on a document, that an attempt failed and when the next one comes, or that a part they
need is away; whatever they say also tells that there is one. An indexer that works says something every `NEWS_S`, so a
silence of several times that, with an event waiting for it, means that none is there. Where processors are short, an indexer that
stands back speaks late without being away, so the silence that counts grows with that.

The statements that read documents explain it by the way (`explain_waiting` in ``migrations/0004_explain_waiting.sql``).
"""

from collections.abc import Callable

from refdesk.contracts.events import NEWS_S
from refdesk.outside.pressure import waited_for_processors

PUBLISH_S_MAX = 2.0
"""An event that has waited longer in the outbox is not merely about to be published."""
SILENCE_S_MAX = 3 * NEWS_S
STRETCH_MAX = 10.0
"""How many times as long an indexer may be silent on a machine whose processors are all busy: at its niceness of 10 it gets a
tenth of one."""


def silence_s_max(waited: Callable[[], float] = waited_for_processors) -> float:
    """How long a living indexer may be silent, as this machine is now; one elsewhere is judged by the machine that asks."""
    return SILENCE_S_MAX * (1 + (STRETCH_MAX - 1) * waited())
