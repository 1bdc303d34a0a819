"""Every line of the Document Service's HTTP contract, on a real socket and a real database."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.integration.documents_desk import ADMINISTRATOR, ALICE, EDITOR, HR, STRANGER, Desk, open_desk

from refdesk.contracts.access import Principal

DOCUMENT_FIELDS = {
    "id", "version", "title", "media_type", "content_sha256", "content_bytes", "readers", "tags", "external_id",
    "filename", "url", "owner", "created_at", "updated_at", "state", "indexed_version", "attempts", "failure",
    "lag_seconds", "freshness_token", "own_title", "notes", "waiting", "index_seconds",
    "indexing_step", "may",
}  # fmt: skip


@pytest.fixture
async def desk(fresh_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(fresh_database, tmp_path / "blobs") as desk:
        yield desk


def form(content: bytes = b"# Leave\n\nThirty days.", filename: str = "leave.md", **fields: Any) -> aiohttp.FormData:
    data = aiohttp.FormData(quote_fields=False)
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            data.add_field(name, one)
    data.add_field("file", content, filename=filename, content_type="application/octet-stream")
    return data


async def test_a_file_becomes_a_document(desk: Desk) -> None:
    """Multipart in, 201 out, with everything a client needs to go on."""
    reply = await desk.call(
        "POST",
        data=form(title="Leave", readers=["hr", "principal:bob, legal"], tags="policy,2026", external_id="hr/leave.md"),
    )
    document = reply.json
    assert reply.status == 201
    assert reply.headers["Location"] == f"/api/documents/{document['id']}"
    assert reply.headers["ETag"] == '"1"'
    assert set(document) == DOCUMENT_FIELDS
    assert document["freshness_token"] == f"{document['id']}@1"
    assert (document["version"], document["state"], document["owner"]) == (1, "pending", "alice")
    assert document["readers"] == ["hr", "legal", "principal:bob"]
    assert document["tags"] == ["2026", "policy"]
    assert (document["title"], document["filename"], document["media_type"]) == ("Leave", "leave.md", "text/markdown")
    assert document["lag_seconds"] >= 0
    assert document["updated_at"].endswith("Z")


async def test_a_text_becomes_a_document(desk: Desk) -> None:
    """JSON in; Markdown and everyone are the defaults."""
    document = await desk.add("Holidays", url="https://wiki.example/holidays")
    assert document["media_type"] == "text/markdown"
    assert document["readers"] == ["everyone"]
    assert document["filename"] is None
    content = await desk.call("GET", f"/{document['id']}/content")
    assert content.body == b"# Holidays\n\nThirty days."
    assert hashlib.sha256(content.body).hexdigest() == document["content_sha256"]


async def test_a_file_without_title_is_called_by_its_name(desk: Desk) -> None:
    """The extension goes; paths and control characters never get in."""
    reply = await desk.call("POST", data=form(filename="C:\\temp\\..\\Travel \u202eExpenses.v2.md"))
    assert (reply.json["title"], reply.json["filename"]) == ("Travel Expenses.v2", "Travel Expenses.v2.md")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"data": form(b"")}, 422, "empty"),
        ({"json": {"title": "T", "text": ""}}, 422, "empty"),
        ({"json": {"title": "T"}}, 422, "no content"),
        ({"json": {"text": "x"}}, 422, "no title"),
        ({"json": {"title": "  ", "text": "x"}}, 422, "title"),
        ({"json": {"title": "T" * 301, "text": "x"}}, 422, "300"),
        ({"json": {"title": "a\u0000b", "text": "x"}}, 422, "NUL"),
        ({"json": {"title": "T", "text": "x", "color": "red"}}, 422, "color"),
        ({"json": {"title": 7, "text": "x"}}, 422, "title"),
        ({"json": {"title": "T", "text": "x", "readers": ["a b"]}}, 422, "reader"),
        ({"json": {"title": "T", "text": "x", "readers": [f"g{n}" for n in range(65)]}}, 422, "64"),
        ({"json": {"title": "T", "text": "x", "tags": [f"t{n}" for n in range(33)]}}, 422, "32"),
        ({"json": {"title": "T", "text": "x", "tags": ["t" * 65]}}, 422, "64"),
        ({"json": {"title": "T", "text": "x", "external_id": "e" * 513}}, 422, "512"),
        ({"json": {"title": "T", "text": "x", "url": "javascript:alert(1)"}}, 422, "http"),
        ({"json": {"title": "T", "text": "x", "media_type": "image/png"}}, 415, "image/png"),
        ({"json": {"title": "T", "media_type": "text/plain"}}, 422, "media_type"),
        ({"json": [1]}, 422, "object"),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 422, "JSON"),
        ({"data": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "multipart"),
        ({"data": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "boundary"),
        ({"data": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}}, 422, "form"),
        ({"data": form(color="red")}, 422, "color"),
        ({"data": form(title=["a", "b"])}, 422, "2 times"),
        ({"data": form(tags=["a"] * 200)}, 422, "Too many fields"),
        ({"data": form(title="x" * 9000)}, 422, "size"),
        ({"data": form(b"II*\x00\x08\x00", filename="scan.tif")}, 415, "picture"),
        ({"data": form(b"MZ\x90\x00\x03\x00\x00\x00", filename="setup.md")}, 415, "program"),
    ],
)
async def test_a_bad_document_is_refused_with_a_reason(
    desk: Desk, body: dict[str, Any], status: int, says: str
) -> None:
    """Problem details with the right status, and nothing is written."""
    reply = await desk.call("POST", **body)
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert says in reply.json["detail"]
    assert await desk.query("SELECT 1 FROM documents") == []


async def test_two_files_or_a_misnamed_one_are_refused(desk: Desk) -> None:
    """One file, called `file`."""
    two = form()
    two.add_field("file", b"more", filename="more.md")
    assert (await desk.call("POST", data=two)).status == 422
    misnamed = aiohttp.FormData()
    misnamed.add_field("document", b"text", filename="a.md")
    assert "`file`" in (await desk.call("POST", data=misnamed)).json["detail"]


async def test_a_replacement_counts_up_and_the_same_again_does_not(desk: Desk) -> None:
    """Versions count changes of content or metadata; a PUT of what is there is no change."""
    document = await desk.add()
    address = f"/{document['id']}"
    reply = await desk.call("PUT", address, json={"text": "new", "readers": ["hr"]})
    assert (reply.status, reply.json["version"], reply.headers["ETag"]) == (200, 2, '"2"')
    assert (reply.json["title"], reply.json["readers"]) == ("Holidays", ["hr"])
    again = await desk.call("PUT", address, json={"text": "new", "title": "Holidays", "readers": ["hr"]})
    assert (again.status, again.json["version"]) == (200, 2)
    metadata_only = await desk.call("PUT", address, json={"tags": ["policy"]})
    assert metadata_only.json["version"] == 3
    assert metadata_only.json["content_sha256"] == reply.json["content_sha256"]
    as_form = await desk.call("PUT", address, data=form(b"other", filename="other.txt"))
    assert (as_form.json["version"], as_form.json["media_type"]) == (4, "text/plain")
    assert len(await desk.query("SELECT 1 FROM outbox")) == 4


async def test_if_match_guards_a_change(desk: Desk) -> None:
    """412 with what to do, on PUT and DELETE; lists and * are understood."""
    document = await desk.add()
    address = f"/{document['id']}"
    stale = await desk.call("PUT", address, json={"text": "2"}, headers={"If-Match": '"7"'})
    assert (stale.status, stale.json["type"], stale.json["version"]) == (412, "version-mismatch", 1)
    fresh = await desk.call("PUT", address, json={"text": "2"}, headers={"If-Match": '"7", "1"'})
    assert fresh.json["version"] == 2
    assert (await desk.call("PUT", address, json={"text": "3"}, headers={"If-Match": "*"})).json["version"] == 3
    assert (await desk.call("DELETE", address, headers={"If-Match": 'W/"3"'})).status == 412
    assert (await desk.call("DELETE", address, headers={"If-Match": '"3"'})).status == 204


async def test_put_by_external_id_creates_then_replaces(desk: Desk) -> None:
    """What sync uses: 201, then 200; idempotent; slashes are part of the id."""
    address = "/by-external-id/handbook/leave.md"
    created = await desk.call("PUT", address, data=form())
    assert (created.status, created.json["external_id"]) == (201, "handbook/leave.md")
    same = await desk.call("PUT", address, data=form())
    assert (same.status, same.json["id"], same.json["version"]) == (200, created.json["id"], 1)
    newer = await desk.call("PUT", address, data=form(b"other"))
    assert (newer.status, newer.json["id"], newer.json["version"]) == (200, created.json["id"], 2)
    other_name = await desk.call("PUT", address, data=form(external_id="b"))
    assert other_name.status == 422
    absent = await desk.call("PUT", "/by-external-id/none", data=form(), headers={"If-Match": '"1"'})
    assert absent.status == 412


@pytest.mark.parametrize("by", [STRANGER, EDITOR, ADMINISTRATOR], ids=lambda by: by.id)
async def test_an_external_id_is_its_owners_own(desk: Desk, by: Principal) -> None:
    """Whoever writes under one that somebody else uses makes a document of their own, and nothing of the other's changes."""
    hers = (await desk.call("PUT", "/by-external-id/a", data=form())).json
    theirs = await desk.call("PUT", "/by-external-id/a", by=by, data=form(b"taken over"))
    assert (theirs.status, theirs.json["owner"]) == (201, by.id)
    again = await desk.call("PUT", "/by-external-id/a", by=by, data=form(b"again"))
    assert (again.status, again.json["id"]) == (200, theirs.json["id"])
    assert (await desk.call("GET", f"/{hers['id']}")).json["version"] == 1
    clash = await desk.call("POST", data=form(external_id="a"))
    assert (clash.status, clash.json["type"]) == (409, "conflict")


async def test_an_administrator_writes_under_anothers_external_id_by_saying_so(desk: Desk) -> None:
    """What is made there is the other's. Nobody else may say so, nor list."""
    hers = (await desk.call("PUT", "/by-external-id/wiki/a", data=form())).json
    address = "/by-external-id/wiki/a?owner=alice"
    replaced = await desk.call("PUT", address, by=ADMINISTRATOR, data=form(b"other"))
    assert (replaced.status, replaced.json["id"], replaced.json["owner"]) == (200, hers["id"], "alice")
    made = await desk.call("PUT", "/by-external-id/wiki/b?owner=alice", by=ADMINISTRATOR, data=form())
    assert (made.status, made.json["owner"]) == (201, "alice")
    listed = await desk.call("GET", "/by-external-id?prefix=wiki/&owner=alice", by=ADMINISTRATOR)
    assert [document["id"] for document in listed.json["documents"]] == [hers["id"], made.json["id"]]
    for by in (STRANGER, EDITOR):
        assert (await desk.call("PUT", address, by=by, data=form())).status == 403
        assert (await desk.call("GET", "/by-external-id?prefix=wiki/&owner=alice", by=by)).status == 403
    assert (await desk.call("PUT", address, data=form())).status == 200
    assert (await desk.call("PUT", "/by-external-id/a?owner=%00", by=ADMINISTRATOR, data=form())).status == 422


async def test_only_its_owner_gives_a_document_an_external_id(desk: Desk) -> None:
    """An editor cannot put one's document where one's own next write will go."""
    document = await desk.add("Open")
    refused = await desk.call("PUT", f"/{document['id']}", by=EDITOR, json={"external_id": "wiki/next"})
    assert (refused.status, refused.json["type"]) == (403, "forbidden")
    same = await desk.call("PUT", f"/{document['id']}", by=EDITOR, json={"text": "edited"})
    assert same.status == 200
    assert (await desk.call("PUT", f"/{document['id']}", json={"external_id": "wiki/next"})).status == 200


async def test_deleted_is_gone_at_once(desk: Desk) -> None:
    """204; then every read is a 404, also a second delete; its external id is free for a new document."""
    document = (await desk.call("PUT", "/by-external-id/a", data=form())).json
    address = f"/{document['id']}"
    assert (await desk.call("DELETE", address)).status == 204
    for method, path in (
        ("GET", address), ("GET", f"{address}/content"), ("GET", f"{address}/versions"), ("DELETE", address),
        ("POST", f"{address}/retry"), ("PUT", address),
    ):  # fmt: skip
        assert (await desk.call(method, path)).status == 404, (method, path)
    assert (await desk.call("GET")).json["documents"] == []
    standing = await desk.call("POST", "/standing", by=ADMINISTRATOR, json=_asked(document["id"], everything=True))
    assert standing.json["standings"] == []
    recreated = await desk.call("PUT", "/by-external-id/a", data=form())
    assert recreated.status == 201
    assert recreated.json["id"] != document["id"]
    [(version, sha256, title)] = await desk.query(
        "SELECT version, content_sha256, title FROM documents WHERE deleted_at IS NOT NULL"
    )
    assert (version, sha256, title) == (2, None, "")


async def test_history_lists_every_version(desk: Desk) -> None:
    """Newest first, with who changed what."""
    document = await desk.add()
    await desk.call("PUT", f"/{document['id']}", by=EDITOR, json={"text": "new"})
    versions = (await desk.call("GET", f"/{document['id']}/versions")).json["versions"]
    assert [(v["version"], v["change"], v["changed_by"]) for v in versions] == [
        (2, "replaced", "edgar"),
        (1, "created", "alice"),
    ]


async def test_history_shows_the_versions_that_one_could_read(desk: Desk) -> None:
    """Not titles, hashes and readers of a time when one could not; owner and administrator see all."""
    document = await desk.add("Secret plan", readers=["legal"])
    path = f"/{document['id']}"
    await desk.call("PUT", path, json={"title": "Plan", "readers": ["hr"]})
    await desk.call("PUT", path, json={"title": "Hidden again", "readers": []})
    await desk.call("PUT", path, json={"title": "For all", "readers": ["everyone"]})

    async def seen(by: Principal) -> list[tuple[int, str]]:
        history = (await desk.call("GET", path + "/versions", by=by)).json["versions"]
        return [(version["version"], version["title"]) for version in history]

    whole = [(4, "For all"), (3, "Hidden again"), (2, "Plan"), (1, "Secret plan")]
    assert await seen(ALICE) == await seen(ADMINISTRATOR) == whole
    assert await seen(HR) == [(4, "For all"), (2, "Plan")]
    assert await seen(STRANGER) == await seen(EDITOR) == [(4, "For all")]


async def test_content_cannot_act_as_our_page(desk: Desk) -> None:
    """Stored HTML is a download in a sandbox; text may be shown; an unchanged one is not sent again."""
    page = b"<!doctype html><script>alert(1)</script>"
    stored = (await desk.call("POST", data=form(page, filename='re"port\u00e9.html'))).json
    reply = await desk.call("GET", f"/{stored['id']}/content")
    assert reply.body == page
    assert reply.headers["Content-Type"] == "text/html"
    assert reply.headers["Content-Security-Policy"].startswith("sandbox")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Content-Disposition"].startswith('attachment; filename="re_port_.html"; ')
    assert "filename*=UTF-8''re%22port%C3%A9.html" in reply.headers["Content-Disposition"]
    text = await desk.add()
    shown = await desk.call("GET", f"/{text['id']}/content")
    assert shown.headers["Content-Disposition"].startswith("inline")
    unchanged = await desk.call("GET", f"/{text['id']}/content", headers={"If-None-Match": shown.headers["ETag"]})
    assert (unchanged.status, unchanged.body) == (304, b"")


async def test_superseded_content_is_told_from_missing(desk: Desk) -> None:
    """The indexer names the content that it wants: 409 when a newer one is there, 404 when the document is gone."""
    document = await desk.add()
    address = f"/{document['id']}/content?content_sha256={document['content_sha256']}"
    assert (await desk.call("GET", address)).status == 200
    await desk.call("PUT", f"/{document['id']}", json={"text": "newer"})
    superseded = await desk.call("GET", address)
    assert (superseded.status, superseded.json["version"]) == (409, 2)
    await desk.call("DELETE", f"/{document['id']}")
    assert (await desk.call("GET", address)).status == 404


async def test_lists_page_through_everything_once(desk: Desk) -> None:
    """Newest first; a document added meanwhile moves nothing."""
    ids = [(await desk.add(f"Document {n}"))["id"] for n in range(5)]
    seen, cursor = [], ""
    while True:
        page = (await desk.call("GET", f"?limit=2&cursor={cursor}")).json
        seen += [document["id"] for document in page["documents"]]
        await desk.add("meanwhile")
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert sorted(seen, reverse=True) == sorted(ids, reverse=True)


async def test_lists_filter_by_state_title_and_tag(desk: Desk) -> None:
    """Filters combine; the title's filter ignores case and takes wildcards literally."""
    straße = await desk.add("Die Große ÜBERSICHT 100%", tags=["a", "b"])
    await desk.add("Other", tags=["b"])
    await desk.query("UPDATE documents SET indexed_version = version WHERE id = %s RETURNING id", straße["id"])

    async def found(query: str) -> list[str]:
        reply = await desk.call("GET", f"?{query}")
        assert reply.status == 200, reply.body
        return [document["title"] for document in reply.json["documents"]]

    assert await found("q=große übersicht") == [straße["title"]]
    assert await found("q=0%25") == [straße["title"]]
    assert await found("q=_") == []
    assert await found("tag=b") == ["Other", straße["title"]]
    assert await found("tag=b&state=pending") == ["Other"]
    assert await found("state=indexed") == [straße["title"]]
    assert await found("state=failed") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "state=gone", "cursor=!!", "cursor=YQ", "q=%00"])
async def test_a_bad_list_query_is_refused(desk: Desk, query: str) -> None:
    """422, never a 500 and never a silent default."""
    assert (await desk.call("GET", f"?{query}")).status == 422


async def test_standing_says_what_a_scope_may_read(desk: Desk) -> None:
    """Newest versions of what exists and is readable; the owner counts as reader; the lag is the oldest pending's."""
    open_, closed = await desk.add("Open"), await desk.add("Closed", readers=["hr"])
    await desk.call("PUT", f"/{open_['id']}", json={"text": "newer"})
    ids = [open_["id"], closed["id"], "0" * 32, "nonsense"]

    async def standings(**scope: Any) -> dict[str, int]:
        reply = await desk.call("POST", "/standing", by=ADMINISTRATOR, json=_asked(*ids, **scope))
        assert reply.status == 200, reply.body
        return {standing["title"]: standing["version"] for standing in reply.json["standings"]}

    assert await standings(readers=["everyone"]) == {"Open": 2}
    assert await standings(readers=["everyone", "hr"]) == {"Open": 2, "Closed": 1}
    assert await standings(readers=["principal:alice"]) == {"Open": 2, "Closed": 1}
    assert await standings(everything=True) == {"Open": 2, "Closed": 1}
    assert await standings() == {}


async def test_as_of_is_the_oldest_pending_change(desk: Desk) -> None:
    """A later version does not hide that an earlier one waits; failed documents hold nothing up."""
    reply = await desk.call("POST", "/standing", by=ADMINISTRATOR, json=_asked())
    assert reply.json["index_lag_seconds"] == 0
    document = await desk.add()
    await desk.call("PUT", f"/{document['id']}", json={"text": "newer"})
    reply = await desk.call("POST", "/standing", by=ADMINISTRATOR, json=_asked())
    assert reply.json["index_lag_seconds"] > 0
    [(pending_since,)] = await desk.query(
        "SELECT pending_since = created_at OR pending_since < updated_at FROM documents"
    )
    assert pending_since
    await desk.query("UPDATE documents SET failed = true RETURNING id")
    reply = await desk.call("POST", "/standing", by=ADMINISTRATOR, json=_asked())
    assert reply.json["index_lag_seconds"] == 0


async def test_standing_says_whether_what_was_seen_was_ever_so(desk: Desk) -> None:
    """A content that the document has or had, and at its own version no other: a backup knows nothing of what came after it."""
    document = await desk.add("Seen")
    first = document["content_sha256"]
    second = (await desk.call("PUT", f"/{document['id']}", json={"text": "Forty days."})).json["content_sha256"]

    async def known(version: int, content_sha256: str) -> bool:
        seen = {"document_id": document["id"], "version": version, "content_sha256": content_sha256}
        asked = _asked(document["id"], everything=True, seen=[seen])
        [standing] = (await desk.call("POST", "/standing", by=ADMINISTRATOR, json=asked)).json["standings"]
        return bool(standing["known"])

    assert [await known(1, first), await known(2, second), await known(0, first)] == [True, True, True]
    assert [await known(2, first), await known(3, "0" * 64), await known(1, "0" * 64)] == [False, False, False]


async def test_standing_takes_so_many_ids(desk: Desk) -> None:
    """422 with limit and actual."""
    reply = await desk.call("POST", "/standing", by=ADMINISTRATOR, json=_asked(*["0" * 32] * 1001))
    assert (reply.status, reply.json["limit"], reply.json["actual"]) == (422, 1000, 1001)


# -- who may do what

READ = [("GET", ""), ("GET", "/content"), ("GET", "/versions")]
CHANGE = [("PUT", ""), ("POST", "/retry"), ("DELETE", "")]


@pytest.mark.parametrize(
    ("by", "read", "change"),
    [
        (ALICE, 200, True),
        (HR, 200, 403),
        (STRANGER, 404, 404),
        (EDITOR, 404, 404),
        (ADMINISTRATOR, 200, True),
        (None, 401, 401),
    ],
    ids=["owner", "group reader", "stranger", "editor who cannot read", "administrator", "anonymous"],
)
async def test_the_access_matrix(desk: Desk, by: Any, read: int, change: Any) -> None:
    """Owner and administrator change, readers read, everybody else learns nothing."""
    document = await desk.add("Secret", readers=["hr"])
    for method, path in READ:
        assert (await desk.call(method, f"/{document['id']}{path}", by=by)).status == read, (method, path)
    listed = (await desk.call("GET", by=by)).json.get("documents", [])
    assert len(listed) == (read == 200)
    for method, path in CHANGE:
        body = {"json": {"text": "changed"}} if method == "PUT" else {}
        reply = await desk.call(method, f"/{document['id']}{path}", by=by, **body)
        assert (reply.status in (200, 202, 204)) if change is True else (reply.status == change), (method, path)


async def test_an_editor_changes_what_they_can_read(desk: Desk) -> None:
    """Editors keep up everybody's documents, inside their scope."""
    document = await desk.add("Open")
    assert (await desk.call("PUT", f"/{document['id']}", by=EDITOR, json={"text": "edited"})).status == 200
    assert (await desk.call("DELETE", f"/{document['id']}", by=EDITOR)).status == 204


async def test_foreign_and_missing_look_the_same(desk: Desk) -> None:
    """Byte-equal problem bodies, whatever the id is."""
    foreign = (await desk.add("Secret", readers=[]))["id"]
    bodies = set()
    for name in (foreign, "0" * 32, "nonsense", "%00", "é"):
        for method, path in READ + CHANGE:
            reply = await desk.call(
                method, f"/{name}{path}", by=STRANGER, json={"text": "x"} if method == "PUT" else None
            )
            assert reply.status == 404, (name, method, path)
            bodies.add(reply.body)
    assert len(bodies) == 1


async def test_only_administrators_ask_for_standings(desk: Desk) -> None:
    """The call takes any scope, so it is for the services and administrators alone."""
    assert (await desk.call("POST", "/standing", by=EDITOR, json=_asked())).status == 403
    assert (await desk.call("POST", "/standing", by=None, json=_asked())).status == 401


def _asked(*ids: str, **scope: Any) -> dict[str, Any]:
    return {"document_ids": list(ids), **scope}


ASKER = Principal(id="astrid", groups=("hr",), role="asker")
WRITES = [
    ("POST", "", {"json": {"title": "T", "text": "x"}}),
    ("PUT", "/{id}", {"json": {"title": "Renamed"}}),
    ("PUT", "/by-external-id/a", {"json": {"title": "T", "text": "x"}}),
    ("POST", "/{id}/retry", {}),
    ("DELETE", "/{id}", {}),
]


async def test_an_asker_reads_and_does_not_write(desk: Desk) -> None:
    """Not even what it owns from a time when it was a writer's key; and nothing of the body is read."""
    own = await desk.add("Own", by=Principal(id="astrid"))
    assert (await desk.call("GET", f"/{own['id']}", by=ASKER)).status == 200
    for method, path, body in WRITES:
        refused = await desk.call(method, path.format(id=own["id"]), by=ASKER, **body)
        assert (refused.status, refused.json["type"]) == (403, "forbidden"), (method, path)
    assert (await desk.call("GET", f"/{own['id']}")).json["version"] == 1


WRITER = Principal(id="wendy", groups=("hr", "legal"))


@pytest.mark.parametrize(
    ("by", "readers", "status"),
    [
        (WRITER, ["hr"], 201),
        (WRITER, ["hr", "legal"], 201),
        (WRITER, ["everyone"], 201),
        (WRITER, [], 201),
        (WRITER, ["principal:bob"], 201),
        (WRITER, ["board"], 403),
        (WRITER, ["hr", "board"], 403),
        (WRITER, ["administrators"], 403),
        (Principal(id="edgar", groups=("editors",)), ["editors"], 201),
        (Principal(id="edgar", groups=("editors",)), ["hr"], 403),
        (Principal(id="nina"), ["hr"], 403),
        (ADMINISTRATOR, ["board", "hr"], 201),
    ],
    ids=str,
)
async def test_writers_name_their_own_groups(desk: Desk, by: Principal, readers: list[str], status: int) -> None:
    """And everyone, and single principals; administrators name any. The refusal lists what one may name."""
    made = [
        await desk.call("POST", by=by, json={"title": "T", "text": "x", "readers": readers}),
        await desk.call("POST", by=by, data=form(readers=readers or [""])),
        await desk.call("PUT", "/by-external-id/x", by=by, json={"title": "T", "text": "x", "readers": readers}),
    ]
    own = await desk.add("Own", by=by, readers=[])
    made.append(await desk.call("PUT", f"/{own['id']}", by=by, json={"readers": readers}))
    assert [reply.status for reply in made] == [status, status, status, 200 if status == 201 else status]
    if status == 403:
        assert made[0].json["field"] == "readers"
        assert all(group in made[0].json["detail"] for group in (*by.groups, "everyone"))
    else:
        assert made[3].json["readers"] == sorted(readers)


async def test_readers_that_are_there_may_stay(desk: Desk) -> None:
    """Who changes a document need not be in the groups that somebody else let in; who took one out cannot bring it back."""
    document = await desk.add("Shared", by=ADMINISTRATOR, readers=["board", "hr"])
    editor = Principal(id="edgar", groups=("editors", "hr"))
    path = f"/{document['id']}"
    kept = await desk.call("PUT", path, by=editor, json={"text": "edited", "readers": ["hr", "board"]})
    assert (kept.status, kept.json["readers"]) == (200, ["board", "hr"])
    assert (await desk.call("PUT", path, by=editor, json={"readers": ["hr"]})).status == 200
    assert (await desk.call("PUT", path, by=editor, json={"readers": ["hr", "board"]})).status == 403
