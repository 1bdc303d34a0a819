"""The matrix of access: who calls, what they call upon, and what has to come of it, written down a second time.

Nothing here asks the policy. A route is known by its action; each action has a row of its own that says which people it lets in,
and each route a probe that says how it is called and upon what. What has no row or no probe is missing from the matrix.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import psycopg

from refdesk.access.cookies import cookies_for
from refdesk.access.cross_site import csrf_token
from refdesk.access.oidc.people import principal_id
from refdesk.access.policy import Action
from refdesk.access.sealing import KeptTokens
from refdesk.access.sessions import NewSession, Sessions
from refdesk.contracts.access import Principal, Role, readers_with_owner
from refdesk.index.open_generations import Opened
from refdesk.indexing.dead_letters import DeadLetters, Fault, Work
from refdesk.outside.postgres.database import open_pool
from refdesk.settings.access import SessionLimits
from tests.integration.documents_desk import eventually
from tests.support.desk import index_text
from tests.support.live_desk import LiveDesk

Target = Literal["own", "foreign", "missing"]
ISSUER = "http://127.0.0.1:1"
"""An identity provider that is away: sessions that stand are enough here."""
MARK = "ZEBRA"
"""Stands in every title, text, question and reason: whoever is shown content is shown it."""
SECRET = "OKAPI"
"""Stands in what is foreign, besides."""


@dataclass(frozen=True)
class Person:
    role: Role
    groups: tuple[str, ...] = ()


PEOPLE: Mapping[str, Person] = {
    "administrator": Person("administrator"),
    "curator": Person("curator", ("finance",)),
    "curator elsewhere": Person("curator", ("legal",)),
    "writer": Person("writer", ("legal",)),
    "asker": Person("asker", ("legal",)),
    "operator": Person("operator", ("finance",)),
    "owner": Person("writer"),
    "group reader": Person("asker", ("finance",)),
    "stranger": Person("writer"),
    "signed in": Person("asker", ("legal",)),
}
"""Foreign documents are the owner's, and read by the group ``finance``."""
SIGNED_IN, SIGNED_OUT = "signed in", "signed-out session"
"""These come with the cookie of a session, all others with a key."""
NOBODY = frozenset({"anonymous", "revoked key", "expired key", SIGNED_OUT})
ASKERS = frozenset(PEOPLE) - {"operator"}
WRITERS = ASKERS - {"asker", "group reader", SIGNED_IN}
CURATORS = frozenset({"curator", "curator elsewhere", "administrator"})
OPERATORS = frozenset({"operator", "administrator"})
ADMINISTRATORS = frozenset({"administrator"})
EVERYBODY = frozenset(PEOPLE) | NOBODY

LET_IN: Mapping[Action, frozenset[str]] = {
    "page.read": EVERYBODY,
    "health.read": EVERYBODY,
    "metrics.read": OPERATORS,
    "description.read": frozenset(PEOPLE),
    "examples.read": ASKERS,
    "keys.manage": ADMINISTRATORS,
    "session.begin": EVERYBODY,
    "session.leave": EVERYBODY,
    "sessions.read": frozenset(PEOPLE),
    "sessions.end": frozenset(PEOPLE),
    "principal.read": frozenset(PEOPLE),
    "documents.read": ASKERS,
    "documents.create": WRITERS,
    "documents.change": WRITERS,
    "documents.name": WRITERS,
    "documents.operate": OPERATORS,
    "documents.inspect": ADMINISTRATORS,
    "documents.read_erasure": WRITERS,
    "syncs.report": WRITERS,
    "syncs.read": ASKERS,
    "answers.ask": ASKERS,
    "answers.read": ASKERS,
    "answers.stop": ASKERS,
    "answers.rate": ASKERS,
    "answers.share": ASKERS,
    "conversations.read": ASKERS,
    "conversations.change": ASKERS,
    "texts.embed": ASKERS,
    "gaps.read": CURATORS,
    "gaps.read_own": ASKERS,
    "usage.read": frozenset(PEOPLE),
    "operations.read": OPERATORS,
    "tools.call": ASKERS,
    "signin.describe": EVERYBODY,
    "passages.search": ASKERS,
    "passages.read": ASKERS,
    "feedback.read": CURATORS,
    "dead_letters.manage": OPERATORS,
    "index.manage": OPERATORS,
    "audit.read": ADMINISTRATORS,
}
"""Whom the door lets in, whatever they would do it to."""

READERS_OF_FOREIGN = frozenset({"administrator", "curator", "owner", "group reader"})
CHANGERS_OF_FOREIGN = frozenset({"administrator", "curator", "owner"})


@dataclass(frozen=True)
class Rule:
    """Of those that the door lets in: who sees what is foreign, who may do it, and what the others are told."""

    sees: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    hidden: int = 404
    missing: int = 404

    def status(self, who: str, target: Target) -> int | None:
        """The refusal; None where it is allowed."""
        if target == "own":
            return None
        if target == "missing":
            return self.missing if who not in ADMINISTRATORS or self.missing == 404 else None
        if who not in self.sees:
            return self.hidden
        return None if who in self.may else 403


READ_DOCUMENT = Rule(sees=READERS_OF_FOREIGN, may=READERS_OF_FOREIGN)
CHANGE_DOCUMENT = Rule(sees=READERS_OF_FOREIGN, may=CHANGERS_OF_FOREIGN)
ERASURE = Rule(sees=CHANGERS_OF_FOREIGN, may=CHANGERS_OF_FOREIGN)
OWN_ALONE = Rule(sees=frozenset({"owner"}), may=frozenset({"owner"}))
OWNERS_LIST = Rule(
    sees=frozenset({"administrator", "owner"}), may=frozenset({"administrator", "owner"}), hidden=403, missing=403
)
"""Of names of an owner that the call names: whether there is such an owner is not told."""
SYNC = Rule(sees=frozenset({"administrator", "owner"}), may=frozenset({"administrator", "owner"}))
FOR_ALL = Rule(sees=frozenset(PEOPLE), may=frozenset(PEOPLE))
MANAGED = Rule(sees=OPERATORS, may=OPERATORS)
CURATED = Rule(sees=CURATORS, may=CURATORS)
"""Whatever of it the curator may read."""
OF_GROUPS = Rule(sees=frozenset({"administrator", "curator"}), may=frozenset({"administrator", "curator"}))


@dataclass(frozen=True)
class Probe:
    """How one route is called. ``of`` names what stands in its address; without it there is one cell, and no target."""

    of: str = ""
    rule: Rule | None = None
    json: Any = None
    query: str = ""
    accepts: frozenset[int] = frozenset()
    """Statuses, besides success, of a call that was let in: what it asks for cannot be done, and nobody is hurt."""
    changes: bool = False
    """What it is called upon is not the same afterwards: each call that is allowed has one of its own."""


SESSION = Rule(sees=frozenset({"administrator", "owner"}), may=frozenset({"administrator", "owner"}))
"""This desk has none; `test_sign_in` has one."""
NO_PAGES = frozenset({404, 422})
"""These documents are text."""
NO_VERSION = frozenset({404})
"""Nor have they a version of the name that is asked for."""
TEXT = {"title": f"{MARK} made", "text": f"# {MARK}"}
PROBES: Mapping[str, Probe] = {
    "GET /": Probe(),
    "GET /api/examples": Probe(),
    "GET /health/live": Probe(),
    "GET /health/ready": Probe(),
    "GET /metrics": Probe(),
    "GET /openapi.json": Probe(),
    "POST /api/documents": Probe(json=TEXT),
    "GET /api/documents": Probe(),
    "GET /api/documents/events": Probe(),
    "GET /api/documents/by-external-id": Probe("owner", OWNERS_LIST, query="prefix=x&owner={}"),
    "PUT /api/documents/by-external-id/{external_id:path}": Probe("owner", OWNERS_LIST, json=TEXT, query="owner={}"),
    "GET /api/documents/{id}": Probe("document", READ_DOCUMENT),
    "PUT /api/documents/{id}": Probe("document", CHANGE_DOCUMENT, json={"title": f"{MARK} renamed"}, changes=True),
    "DELETE /api/documents/{id}": Probe("document", CHANGE_DOCUMENT, changes=True),
    "GET /api/documents/{id}/erasure": Probe("document", ERASURE, accepts=frozenset({409})),
    "GET /api/documents/{id}/content": Probe("document", READ_DOCUMENT),
    "GET /api/documents/{id}/pages/{page}.png": Probe("document", READ_DOCUMENT, accepts=NO_PAGES),
    "GET /api/documents/{id}/pages/{page}/marks": Probe("document", READ_DOCUMENT, accepts=NO_PAGES),
    "GET /api/documents/{id}/versions": Probe("document", READ_DOCUMENT),
    "GET /api/documents/{id}/versions/{version}/changes": Probe("document", READ_DOCUMENT, accepts=NO_VERSION),
    "POST /api/documents/{id}/retry": Probe("document", CHANGE_DOCUMENT, changes=True),
    "POST /api/documents/standing": Probe(json={"document_ids": []}),
    "GET /api/documents/backlog": Probe(),
    "GET /api/documents/manifest": Probe(),
    "POST /api/documents/manifest": Probe(json={"document_ids": []}),
    "POST /api/documents/check-content": Probe(json={}),
    "POST /api/documents/retell": Probe(json={"documents": []}),
    "POST /api/documents/syncs": Probe(json={"source": f"{MARK}/"}),
    "GET /api/documents/syncs": Probe("owner", OWNERS_LIST, query="owner={}"),
    "GET /api/documents/syncs/{id}": Probe("sync", SYNC),
    "PUT /api/documents/syncs/{id}": Probe("sync", SYNC, json={"counts": {}}),
    "POST /api/answers": Probe(json={"question": f"What is {MARK}?"}),
    "GET /api/answers/{answer_id}": Probe("answer", OWN_ALONE),
    "GET /api/answers/{answer_id}/events": Probe("answer", OWN_ALONE),
    "DELETE /api/answers/{answer_id}": Probe("answer", OWN_ALONE),
    "POST /api/answers/{answer_id}/feedback": Probe("answer", OWN_ALONE, json={"rating": "up", "comment": MARK}),
    "GET /api/feedback": Probe(),
    "GET /api/feedback/{answer_id}": Probe("answer", CURATED, accepts=frozenset({404, 410})),
    "POST /api/answers/{answer_id}/share": Probe("answer", OWN_ALONE, changes=True),
    "DELETE /api/answers/{answer_id}/share": Probe("answer", OWN_ALONE),
    "GET /api/conversations": Probe(),
    "GET /api/conversations/{id}": Probe("conversation", OWN_ALONE),
    "PATCH /api/conversations/{id}": Probe("conversation", OWN_ALONE, json={"title": "x"}),
    "DELETE /api/conversations/{id}": Probe("conversation", OWN_ALONE, changes=True),
    "DELETE /api/conversations/{id}/turns/{answer_id}": Probe("turn", OWN_ALONE, changes=True),
    "GET /api/conversations/{id}/export": Probe("conversation", OWN_ALONE),
    "GET /auth/login": Probe(accepts=frozenset({503})),
    "GET /auth/callback": Probe(accepts=frozenset({400})),
    "POST /auth/logout": Probe(accepts=frozenset({401})),
    "POST /auth/backchannel-logout": Probe(accepts=frozenset({400})),
    "GET /api/sign-in": Probe(),
    "GET /api/me": Probe(),
    "GET /api/sessions": Probe(),
    "DELETE /api/sessions/{id}": Probe("session", SESSION, changes=True),
    "GET /api/usage": Probe(),
    "GET /api/usage.csv": Probe(),
    "GET /api/gaps": Probe(),
    "GET /api/gaps/{id}": Probe("gap", OF_GROUPS),
    "DELETE /api/gaps/{id}": Probe("gap", OF_GROUPS, changes=True),
    "GET /api/gaps/mine": Probe(),
    "POST /api/gaps/{id}/seen": Probe("gap", OWN_ALONE, changes=True),
    "GET /api/operations": Probe(),
    "GET /api/operations/history": Probe(query="metric=tokens"),
    "GET /api/operations/settings": Probe(),
    "POST /v1/chat/completions": Probe(
        json={"model": "refdesk", "messages": [{"role": "user", "content": f"What is {MARK}?"}]}
    ),
    "POST /v1/responses": Probe(json={"model": "refdesk", "input": f"What is {MARK}?"}),
    "GET /v1/models": Probe(),
    "GET /v1/models/{model}": Probe("model", FOR_ALL),
    "POST /v1/embeddings": Probe(json={"model": "refdesk", "input": MARK}),
    "POST /mcp": Probe(json={"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}),
    "GET /.well-known/oauth-protected-resource": Probe(),
    "GET /.well-known/oauth-protected-resource/mcp": Probe(),
    "POST /api/search": Probe(json={"query": MARK}),
    "GET /api/passages/{document_id}": Probe("document", READ_DOCUMENT),
    "GET /api/dead-letters": Probe(),
    "GET /api/dead-letters/{id}": Probe("letter", MANAGED),
    "POST /api/dead-letters/{id}/retry": Probe("letter", MANAGED, changes=True),
    "POST /api/dead-letters/retry": Probe(json={"code": "none-such"}),
    "DELETE /api/dead-letters/{id}": Probe("letter", MANAGED, changes=True),
    "GET /api/index/generations": Probe(),
    "POST /api/index/generations": Probe(json={"model": "no-such-model"}, accepts=frozenset({422})),
    "POST /api/index/generations/{id}/compare": Probe("generation", MANAGED, json={}, accepts=frozenset({409})),
    "POST /api/index/generations/{id}/activate": Probe("generation", MANAGED, json={}),
    "DELETE /api/index/generations/{id}": Probe("generation", MANAGED, accepts=frozenset({409})),
    "POST /api/index/reconcile": Probe(json={"dry_run": True}),
    "POST /api/keys": Probe(json={"name": ""}, accepts=frozenset({422})),
    "GET /api/keys": Probe(),
    "GET /api/audit": Probe(),
    "GET /api/audit/export": Probe(),
    "GET /api/audit.csv": Probe(),
    "PUT /api/keys/{name}": Probe("key", MANAGED, json={"groups": ["legal"]}, changes=True),
    "PATCH /api/keys/{name}": Probe("key", MANAGED, json={"groups": ["legal"]}, changes=True),
    "POST /api/keys/{name}/rotate": Probe("key", MANAGED, changes=True),
    "DELETE /api/keys/{name}": Probe("key", MANAGED, changes=True),
}
"""By method and path, as the desk declares them."""

SOCKET_PROBES: Mapping[str, Probe] = {
    "ask": Probe(json={"question": f"What is {MARK}?"}),
    "resume": Probe("answer", OWN_ALONE),
    "stop": Probe("answer", OWN_ALONE),
}
"""By the type of a message of ``/api/answers/ws``."""


def _words(target: Target) -> str:
    return MARK if target == "own" else f"{MARK} {SECRET}"


TOOL_PROBES: Mapping[str, Probe] = {
    "search_documents": Probe(json={"query": MARK}),
    "read_passage": Probe("document", READ_DOCUMENT, json={"ordinal": 0}),
    "ask": Probe(json={"question": f"What is {MARK}?"}),
}
"""By the name of a tool of ``/mcp``."""
BETWEEN = "|"
"""Between the ids of a thing that has two in its address."""


@dataclass
class Matrix:
    """A desk with these people, and what they call upon."""

    desk: LiveDesk
    generation: Opened
    keys: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    """Of each person, the principal's."""
    kept: dict[tuple[str, str, Target], str] = field(default_factory=dict)

    async def prepare(self) -> None:
        for who, person in PEOPLE.items():
            if who == SIGNED_IN:
                self.ids[who] = principal_id(ISSUER, who)
                continue
            made = await self.desk.keys.create("the-" + who.replace(" ", "-"), person.groups, role=person.role)
            self.keys[who], self.ids[who] = made.key or "", made.id
        revoked = await self.desk.keys.create("revoked", (), role="administrator")
        await self.desk.keys.revoke("revoked")
        expired = await self.desk.keys.create("expired", (), role="administrator")
        await self._execute("UPDATE api_keys SET expires_at = now() WHERE name = %s", "expired")
        self.keys |= {"revoked key": revoked.key or "", "expired key": expired.key or ""}

    async def headers(self, who: str) -> dict[str, str]:
        """What they come with. Each call by a session has one of its own: one of the calls ends it."""
        if who not in (SIGNED_IN, SIGNED_OUT):
            return {"Authorization": f"Bearer {self.keys[who]}"} if who in self.keys else {}
        cookie, session_id = await self._session(SIGNED_IN)
        if who == SIGNED_OUT:
            await self._execute("DELETE FROM sessions WHERE id = %s", session_id)
        cookies = cookies_for(self.desk.url)
        proof = {"X-CSRF-Token": csrf_token(cookie), "Origin": cookies.origin}
        return {"Cookie": f"{cookies.session_name}={cookie}", **proof}

    async def _session(self, whose: str) -> tuple[str, str]:
        """Cookie and id of a new session of theirs."""
        person = PEOPLE[whose]
        principal = Principal(id=self.ids[whose], groups=person.groups, name=whose, role=person.role)
        new = NewSession(
            issuer=ISSUER,
            subject=whose,
            provider_session=None,
            principal=principal,
            tokens=KeptTokens(),
            browser="a test",
        )
        async with open_pool(self.desk.settings.databases.access_url or "", name="test sessions", size_max=1) as pool:
            sessions = Sessions(pool, SessionLimits(per_principal_max=10_000))
            cookie = await sessions.begin(new)
            found = await sessions.look_up(cookie)
            assert found is not None
            return cookie, found.id

    def people(self) -> list[str]:
        return [*PEOPLE, *sorted(NOBODY)]

    async def target(self, of: str, who: str, target: Target, *, fresh: bool) -> str:
        """The id of a thing of that kind. Kept ones are shared by all calls that leave it as it is."""
        whose = "owner" if target == "foreign" else who if who in PEOPLE else "owner"
        place = (of, whose, target)
        if fresh or place not in self.kept:
            made = await self._missing(of) if target == "missing" else await self._make(of, whose, target)
            if fresh:
                return made
            self.kept[place] = made
        return self.kept[place]

    async def _missing(self, of: str) -> str:
        match of:
            case "letter" | "generation" | "gap":
                return "999999"
            case "key" | "owner" | "model":
                return "nobody-such"
            case "turn":
                return BETWEEN.join((secrets.token_hex(4), secrets.token_hex(16)))
        return secrets.token_hex(16) if of != "answer" else self.kept[("answer", "owner", "foreign")][:-6] + "000000"

    async def _make(self, of: str, whose: str, target: Target) -> str:
        match of:
            case "document":
                return await self._document(whose, target)
            case "answer":
                return await self._answer(whose, target)
            case "sync":
                wanted = {"source": f"{_words(target)}/", "owner": self.ids[whose]}
                return str((await self._asked("POST", "/api/documents/syncs", "administrator", wanted))["id"])
            case "letter":
                return await self._letter()
            case "generation":
                return str(
                    (await self._asked("GET", "/api/index/generations", "administrator"))["generations"][0]["id"]
                )
            case "key":
                name = f"spare-{secrets.token_hex(4)}"
                await self.desk.keys.create(name, ())
                return name
            case "owner":
                return self.ids[whose]
            case "session":
                return (await self._session(whose))[1]
            case "model":
                return "refdesk"
            case "gap":
                return await self._gap(whose, target)
            case "conversation":
                return (await self._conversation(whose, target)).partition(BETWEEN)[0]
            case "turn":
                return await self._conversation(whose, target)
        raise AssertionError(of)

    async def _document(self, whose: str, target: Target) -> str:
        """What is own is nobody else's to read. It is in the index, too."""
        words, readers = _words(target), [] if target == "own" else ["finance"]
        made = await self._asked(
            "POST", "/api/documents", "administrator", {"title": words, "text": words, "readers": readers}
        )
        await self._execute("UPDATE documents SET owner = %s WHERE id = %s", self.ids[whose], made["id"])
        readers = list(readers_with_owner(readers, self.ids[whose]))
        await index_text(self.generation, {**made, "readers": readers}, words)
        return str(made["id"])

    async def _gap(self, whose: str, target: Target) -> str:
        """A question of theirs that a document may answer by now."""
        row = await self._execute(
            "WITH gap AS (INSERT INTO gaps (model, centre, questions, question, first_at, last_at, answered_at)"
            " VALUES ('m', '', 1, %s, now(), now(), now()) RETURNING id), asked AS ("
            " INSERT INTO gap_questions (name, gap_id, principal_id, question, reason, asked_at, groups)"
            " SELECT gen_random_uuid()::text, id, %s, %s, 'not_found', now(), %s FROM gap) SELECT id FROM gap",
            *(_words(target), self.ids[whose], _words(target), list(PEOPLE[whose].groups or ("finance",))),
        )
        return str(row[0])

    async def _conversation(self, whose: str, target: Target) -> str:
        """One with a single turn, once it is kept: its id, and the answer's."""
        name, asker = f"talk-{secrets.token_hex(4)}", whose if whose in ASKERS else "owner"
        question = {"question": f"What is {_words(target)}?", "conversation_id": name}
        answer = await self._asked("POST", "/api/answers", asker, question)

        async def is_kept() -> bool:
            listed = await self._asked("GET", "/api/conversations", asker)
            return any(one["id"] == name for one in listed["conversations"])

        await eventually(is_kept)
        return BETWEEN.join((name, str(answer["answer_id"])))

    async def _answer(self, whose: str, target: Target) -> str:
        """The operator has none: somebody else's stands for it, which the door must keep from them as well."""
        asker = whose if whose in ASKERS else "owner"
        made = await self._asked("POST", "/api/answers", asker, {"question": f"What is {_words(target)}?"})
        return str(made["answer_id"])

    async def _letter(self) -> str:
        work = Work(
            event_id=None,
            subject="s",
            payload=b'{"title": "%b"}' % MARK.encode(),
            document_id=secrets.token_hex(16),
            version=1,
        )
        async with open_pool(self.desk.settings.databases.index_url or "", name="test letters", size_max=1) as pool:
            fault = Fault(reason=f"{MARK}.pdf is torn.", code="torn", final=True, log=MARK)
            await DeadLetters(pool).record(work, fault, attempts_max=1)
        listed = await self._asked("GET", "/api/dead-letters", "administrator")
        return str(next(letter["id"] for letter in listed["dead_letters"] if letter["document_id"] == work.document_id))

    async def _asked(self, method: str, path: str, who: str, json: Any = None) -> Any:
        status, _, body = await self.desk.call(method, path, headers=await self.headers(who), json=json)
        assert status < 300, (method, path, who, body)
        return msgspec.json.decode(body)

    async def _execute(self, statement: str, *parameters: str) -> Any:
        """Its row, where it gives one. (One database has all tables.)"""
        url = self.desk.settings.databases.documents_url or ""
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            cursor = await connection.execute(statement.encode(), parameters)
            return await cursor.fetchone() if cursor.description else None
