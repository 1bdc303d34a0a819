"""Conversations over HTTP: `/api/conversations`, and the sharing of answers. Encodings of ``Browsing`` and nothing else."""

import base64
import binascii
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from refdesk.answering.conversations.browsing import Browsing, ConversationPage
from refdesk.answering.conversations.exporting import as_markdown
from refdesk.answering.conversations.history import LAST, NEWEST, Conversation, Place
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.hidden_characters import clean
from refdesk.contracts.texts import Text
from refdesk.web.bodies import read_json
from refdesk.web.endpoints import Endpoint, Parameter, whole
from refdesk.web.replies import DATA_HEADERS, Json

PAGE_MAX = 200
PAGE_DEFAULT = 50
TITLE_MAX = 200

ANSWER_ID = Parameter(name="answer_id", where="path", meaning="The answer")
ID = Parameter(name="id", kind=Annotated[Text, Meta(max_length=128)], where="path", meaning="The conversation")
LIMIT = Parameter(name="limit", kind=whole(1, PAGE_MAX), default=PAGE_DEFAULT, meaning="Entries on a page")
CURSOR = Parameter(
    name="cursor", kind=Annotated[Text, Meta(max_length=500)], meaning="`next_cursor` of the page before"
)
WORDS = Parameter(
    name="q", kind=Annotated[Text, Meta(max_length=500)], default="", meaning="Words of the title or of a question"
)
FORMAT = Parameter(name="format", kind=Literal["markdown", "json"], default="markdown", meaning="How to write it")

_ROOT = "/api/conversations"
_ONE = _ROOT + "/{id}"
_SHARE = "/api/answers/{answer_id}/share"


class Conversations(msgspec.Struct, frozen=True, omit_defaults=True):
    """One page, newest first."""

    conversations: list[Conversation]
    next_cursor: str | None = None


class Renaming(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: Annotated[Text, Meta(min_length=1, max_length=TITLE_MAX)]


class ConversationRoutes:
    """``turns_max``: of one conversation, all of which an export has."""

    def __init__(self, browsing: Browsing, *, turns_max: int) -> None:
        self._browsing = browsing
        self._turns_max = turns_max

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path=_ROOT,
                action="conversations.read",
                handler=self.page,
                summary="Your own conversations, newest first",
                parameters=(WORDS, LIMIT, CURSOR),
                response=Conversations,
            ),
            Endpoint(
                method="GET",
                path=_ONE,
                action="conversations.read",
                handler=self.show,
                summary="A conversation: its newest turns, and those before by cursor",
                parameters=(ID, LIMIT, CURSOR),
                response=ConversationPage,
            ),
            Endpoint(
                method="PATCH",
                path=_ONE,
                action="conversations.change",
                handler=self.rename,
                summary="Rename a conversation",
                parameters=(ID,),
                request=Renaming,
                response=Conversation,
            ),
            Endpoint(
                method="DELETE",
                path=_ONE,
                action="conversations.change",
                handler=self.remove,
                summary="Delete a conversation and its answers",
                parameters=(ID,),
                status=204,
            ),
            Endpoint(
                method="DELETE",
                path=_ONE + "/turns/{answer_id}",
                action="conversations.change",
                handler=self.remove_turns,
                summary="Drop a turn and those after it: the conversation goes on from before",
                parameters=(ID, ANSWER_ID),
                status=204,
            ),
            Endpoint(
                method="GET",
                path=f"{_ONE}/export",
                action="conversations.read",
                handler=self.export,
                summary="A conversation as a file",
                parameters=(ID, FORMAT),
                response=ConversationPage,
                media_types=("text/markdown",),
            ),
            *self._sharing(),
        ]

    def _sharing(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="POST",
                path=_SHARE,
                action="answers.share",
                handler=self.share,
                summary="Let whoever may read all of an answer's evidence read the answer",
                parameters=(ANSWER_ID,),
                status=204,
            ),
            Endpoint(
                method="DELETE",
                path=_SHARE,
                action="answers.share",
                handler=self.unshare,
                summary="End the sharing of an answer",
                parameters=(ANSWER_ID,),
                status=204,
            ),
        ]

    async def page(self, request: Request, principal: Principal) -> ASGIApp:
        cursor, count = CURSOR.of(request), LIMIT.of(request)
        after = NEWEST if cursor is None else _place(cursor)
        words = " ".join(WORDS.of(request).split())
        found = await self._browsing.page(principal, words=words, after=after, count=count + 1)
        shown = found[:count]
        return Json(Conversations(shown, _cursor(shown[-1]) if len(found) > count else None))

    async def show(self, request: Request, principal: Principal) -> ASGIApp:
        before = CURSOR.of(request) or LAST
        return Json(await self._browsing.show(ID.of(request), principal, before=before, count=LIMIT.of(request)))

    async def rename(self, request: Request, principal: Principal) -> ASGIApp:
        title = " ".join(clean((await read_json(request, Renaming)).title).split())
        if not title:
            raise InvalidRequest("The title is empty. Give one with a character in it.", field="title")
        return Json(await self._browsing.rename(ID.of(request), principal, title))

    async def remove(self, request: Request, principal: Principal) -> ASGIApp:
        await self._browsing.remove(ID.of(request), principal)
        return Response(status_code=204)

    async def remove_turns(self, request: Request, principal: Principal) -> ASGIApp:
        await self._browsing.remove_turns(ID.of(request), principal, ANSWER_ID.of(request))
        return Response(status_code=204)

    async def export(self, request: Request, principal: Principal) -> ASGIApp:
        wanted = FORMAT.of(request)
        whole_one = await self._browsing.show(ID.of(request), principal, count=self._turns_max)
        if wanted == "json":
            return Json(whole_one, headers={"Content-Disposition": 'attachment; filename="conversation.json"'})
        headers = {**DATA_HEADERS, "Content-Disposition": 'attachment; filename="conversation.md"'}
        return Response(as_markdown(whole_one), media_type="text/markdown", headers=headers)

    async def share(self, request: Request, principal: Principal) -> ASGIApp:
        await self._browsing.share(ANSWER_ID.of(request), principal, shared=True)
        return Response(status_code=204)

    async def unshare(self, request: Request, principal: Principal) -> ASGIApp:
        await self._browsing.share(ANSWER_ID.of(request), principal, shared=False)
        return Response(status_code=204)


def _cursor(last: Conversation) -> str:
    place = msgspec.json.encode(Place(last.updated_at, last.id))
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def _place(cursor: str) -> Place:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = msgspec.json.decode(base64.urlsafe_b64decode(padded.encode()), type=Place)
    except (binascii.Error, UnicodeError, msgspec.MsgspecError) as error:
        raise InvalidRequest(
            "cursor is not one of ours. Pass next_cursor exactly as it was returned.", field="cursor"
        ) from error
    if place.updated_at.tzinfo is None or "\0" in place.id:
        raise InvalidRequest("cursor is not one of ours. Pass next_cursor exactly as it was returned.", field="cursor")
    return place
