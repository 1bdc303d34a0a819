"""Why documents wait, and how many are ahead of them: read from the tables, so that it is true after any restart.

What the tables know comes from two sides. The outbox says whether the broker has taken the event. The indexers say, on the
stream INDEX, that they are at work on a document, that an attempt failed and when the next one comes, or that a part they
need is away; whatever they say also tells that there is one. An indexer that works says something every `NEWS_S`, so a
silence of several times that, with an event waiting for it, means that none is there.

The statements that read documents explain it by the way (`explain_waiting` in ``migrations/0004_explain_waiting.sql``).
"""

from refdesk.contracts.events import NEWS_S

PUBLISH_S_MAX = 2.0
"""An event that has waited longer in the outbox is not merely about to be published."""
SILENCE_S_MAX = 3 * NEWS_S
