"""What whoever asks may do with a document: told with it, so that nothing is offered that would be refused."""

from collections.abc import Mapping

import msgspec

from refdesk.access.policy import Action, Resource, may
from refdesk.contracts.access import Principal
from refdesk.contracts.documents import Document, DocumentVerb, Page

ACTIONS: Mapping[DocumentVerb, Action] = {"change": "documents.change", "name": "documents.name"}


def shown_to(principal: Principal, document: Document) -> Document:
    """The document, with what the principal may do with it."""
    resource = Resource(owner=document.owner, readers=document.readers)
    verbs = tuple(verb for verb, action in ACTIONS.items() if may(principal, action, resource))
    return msgspec.structs.replace(document, may=verbs)


def page_shown_to(principal: Principal, page: Page) -> Page:
    documents = [shown_to(principal, document) for document in page.documents]
    return msgspec.structs.replace(page, documents=documents)
