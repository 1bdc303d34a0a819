"""What a curator sees of feedback: the questions that were answered from documents of the curator's groups, and from no others.

Who may read a document is the Document Service's to say, and is asked as before an answer is shown (`evidence.gate`).
"""

import msgspec

from refdesk.access.policy import curated_scope, may
from refdesk.answering.curating.feedback import RatedQuestions
from refdesk.answering.evidence.gate import RETRY_AFTER_S, AccessUnknown, Gate
from refdesk.answering.evidence.truth import Shown
from refdesk.contracts.access import Principal

DOCUMENTS_MAX = 500
"""Asked about in one look."""


async def curated(page: RatedQuestions, principal: Principal, *, gate: Gate) -> RatedQuestions:
    """The page without what is not this principal's to read. Raises AccessUnknown while nobody can say what is."""
    if may(principal, "feedback.read_all"):
        return page
    ids = sorted({document_id for rated in page.rated for document_id in rated.documents})
    own: set[str] = set()
    for start in range(0, len(ids), DOCUMENTS_MAX):
        shown = [Shown(document_id, 0) for document_id in ids[start : start + DOCUMENTS_MAX]]
        look = await gate.look(shown, scope=curated_scope(principal))
        if look.checked_at is not None:  # the record beside the index knows what is public, not whose it is
            raise AccessUnknown(retry_after_s=RETRY_AFTER_S)
        own |= {one.document_id for one in shown if look.allows(one.document_id, one.version)}
    return msgspec.structs.replace(
        page, rated=[one for one in page.rated if one.documents and own.issuperset(one.documents)]
    )
