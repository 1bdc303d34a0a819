"""A one-way mirror: what a source holds becomes documents, what vanishes there is deleted here.

    Refdesk ── list ──▶ documents ┐
                                  ├─ by key ──▶ new · known · gone        (`sources.planning`)
    source ── walk ──▶ files      ┘        │
                                           └─ by content hash ──▶ added · updated · unchanged

A file's document has the external id ``<name>/<key>`` (`sources.names`). Only documents of one owner below ``<name>/`` are
touched; those of others stay. Nothing is remembered in between: a pass that is interrupted and begun again finds done what was
done.

Two passes at once do no harm. Documents are listed before files, so that what another pass has just stored is not taken for
gone; a document is deleted only in the version that was listed; and a file that changed while it was sent is sent again.
What it does *not* do: know that a remote file is unchanged without reading it, or carry changes back.
"""

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import msgspec

from refdesk.app.commands.client import CallFailed, Client, patiently
from refdesk.app.receipts import receipted
from refdesk.app.sources.names import key_of, path_of, prefix_of, shown_name
from refdesk.app.sources.planning import EMPTY, DeletionLimits, Gone, Plan, plan, require_few
from refdesk.app.sources.reports import Report
from refdesk.app.sources.trees import Copied, open_tree
from refdesk.app.sources.walking import walk
from refdesk.contracts.access import LOCAL_ADMINISTRATOR, OPERATOR
from refdesk.contracts.errors import InvalidRequest
from refdesk.contracts.syncs import Outcome

AT_ONCE = 4
"""Files read and sent at a time."""
SENT_AGAIN_MAX = 3
"""How often a file is sent that changes all the while."""
PAGE = 1000
CREATED, FORBIDDEN, GONE_ALREADY, CHANGED_MEANWHILE = 201, 403, 404, 412


class Source:
    """A folder, here or behind any URL that fsspec knows, and what its documents' external ids begin with."""

    def __init__(self, url: str, *, name: str | None = None) -> None:
        """Raises InvalidRequest when the URL's kind is unknown or needs a package that is not installed."""
        self.tree, folder = open_tree(url)
        self.prefix = prefix_of(name or (url if folder is None else address_of(folder)))


def address_of(path: str | Path) -> str:
    """A file or folder of this machine as its external id begins."""
    return f"file://{socket.gethostname()}{os.path.abspath(path)}"  # noqa: PTH100 - undecodable bytes and all


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """``fields`` (``readers``, ``tags``) go with every file. The documents are those of ``owner``; None: of whoever calls."""

    fields: dict[str, str] = {}
    owner: str | None = None
    dry_run: bool = False
    deletions: DeletionLimits = DeletionLimits()


class Mirror:
    """One pass of one source into one Refdesk. Only administrators may name another owner."""

    def __init__(self, client: Client, source: Source, options: Options) -> None:
        self._client = client
        self._source = source
        self._options = options
        self.report = Report()
        self._may_delete = 0
        """How many more documents, beside those that were planned."""

    async def run(self, *, on_listed: Callable[[int], None], on_done: Callable[[], None]) -> Report:
        """Raises InvalidRequest and CallFailed when it cannot begin; later failures are in the report."""
        await asyncio.to_thread(self._source.tree.require)
        if self._options.dry_run:
            await self._pass(on_listed, on_done)
        else:
            async with receipted(self._client, self.report, source=self._source.prefix, owner=self._options.owner):
                await self._pass(on_listed, on_done)
        return self.report

    async def _pass(self, on_listed: Callable[[int], None], on_done: Callable[[], None]) -> None:
        documents = await self._documents()
        if not documents and self._options.owner is None:
            await self._refuse_a_second_copy()
        planned = await asyncio.to_thread(self._plan, documents)
        self._may_delete = self._options.deletions.most(len(documents)) - len(planned.deleted)
        on_listed(len(planned.files) + len(planned.deleted))
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(path: str, key: str) -> None:
            async with slots:
                await self._file(path, key, documents.get(key))
            on_done()

        async with asyncio.TaskGroup() as tasks:
            for path, key in planned.files.items():
                tasks.create_task(one(path, key))
        for gone in planned.deleted:
            await self._delete(gone)
            on_done()

    async def _documents(self) -> dict[str, Any]:
        """What came from the source, by key."""
        documents: dict[str, Any] = {}
        cursor: str | None = ""
        while cursor is not None:
            page = await self._page(owner=self._options.owner, limit=PAGE, cursor=cursor)
            documents |= {one["external_id"].removeprefix(self._source.prefix): one for one in page["documents"]}
            cursor = page.get("next_cursor")
        return documents

    async def _page(self, *, owner: str | None, limit: int, cursor: str = "") -> Any:
        parameters = {"prefix": self._source.prefix, "limit": str(limit), "cursor": cursor, **_named(owner)}
        return await self._client.call("GET", "/api/documents/by-external-id", params=parameters)

    async def _refuse_a_second_copy(self) -> None:
        """Raises InvalidRequest when Refdesk's own account has mirrored this source: an administrator may mean to go on there."""
        for owner in (OPERATOR.id, LOCAL_ADMINISTRATOR.id):
            try:
                page = await self._page(owner=owner, limit=1)
            except CallFailed as error:
                if error.refused_with == FORBIDDEN:
                    return  # an administrator's question
                raise
            if page["documents"]:
                raise InvalidRequest(
                    f"Documents of this source belong to `{owner}`, and none to you. To go on with those, say "
                    f"--owner {owner}; for a second copy, say --owner with your own id (`refdesk keys list`)."
                )

    def _plan(self, documents: dict[str, Any]) -> Plan:
        """What is to be done; what is decided already is in the report. Reads the source."""
        listing = walk(self._source.tree)
        limits = self._options.deletions
        planned = plan(listing, documents, limits=limits, holds=self._holding(documents))
        try:
            require_few(planned, listing, documents, limits=limits)
        except InvalidRequest as error:
            if not self._options.dry_run:
                raise
            self.report.refusal = error.message
        self.report.found, self.report.gone = listing.found, len(planned.deleted) + len(planned.kept)
        for passed in listing.skipped.values():
            self.report.count(key_of(passed.path), "skipped", passed.reason)
        for passed in listing.failed.values():
            self.report.count(f"{key_of(passed.path)}/", "failed", passed.reason)
        for path in planned.emptied:
            self.report.count(key_of(path), "skipped", EMPTY)
        for gone in planned.kept:
            self.report.count(gone.key, "kept", gone.reason)
        return planned

    def _holding(self, documents: dict[str, Any]) -> Callable[[str, str], bool]:
        def holds(path: str, key: str) -> bool:
            try:
                with tempfile.TemporaryFile() as copy:
                    return bool(self._source.tree.read(path, copy).sha256 == documents[key]["content_sha256"])
            except OSError:
                return False

        return holds

    # -- files

    async def _file(self, path: str, key: str, document: Any) -> None:
        try:
            outcome, reason = await self._brought(path, key, document)
        except FileNotFoundError:
            outcome, reason = "skipped", "it vanished while it was to be read"
        except OSError as error:
            outcome, reason = "failed", error.strerror or str(error)
        except CallFailed as error:
            outcome, reason = "failed", error.message
        self.report.count(key_of(path), outcome, reason)

    async def _brought(self, path: str, key: str, document: Any) -> tuple[Outcome, str]:
        """What has become of a file: compared, and sent where it differs, again while it changes. Raises OSError, CallFailed."""
        outcome: Outcome = "unchanged"
        with tempfile.NamedTemporaryFile() as copy:
            for _ in range(SENT_AGAIN_MAX):
                copied = await asyncio.to_thread(self._read, path, copy)
                if copied.blank:
                    await self._emptied(key, document)
                    return "skipped", EMPTY
                came_to = await self._compared(path, key, document, copied, Path(copy.name))
                outcome = came_to if outcome == "unchanged" else outcome
                if await asyncio.to_thread(self._stands, path, copied):
                    break
        return outcome, ""

    def _read(self, path: str, copy: IO[bytes]) -> Copied:
        copy.seek(0)
        copy.truncate()
        return self._source.tree.read(path, copy)

    def _stands(self, path: str, copied: Copied) -> bool:
        """Whether the file is still the one that was read; one that has vanished is the next pass's."""
        try:
            return self._source.tree.stamp(path) == copied.stamp
        except FileNotFoundError:
            return True

    async def _compared(self, path: str, key: str, document: Any, copied: Copied, content: Path) -> Outcome:
        if document is not None and self._same(document, copied.sha256):
            return "unchanged"
        if self._options.dry_run:
            return "added" if document is None else "updated"
        return await patiently(lambda: self._put(path, key, content, document))

    def _same(self, document: Any, digest: str) -> bool:
        """Whether a write would change nothing."""
        fields = self._options.fields.items()
        wanted = ((name, {part.strip() for part in given.split(",")}) for name, given in fields)
        return bool(document["content_sha256"] == digest) and all(
            set(document[name]) == given for name, given in wanted
        )

    async def _put(self, path: str, key: str, content: Path, document: Any) -> Outcome:
        """Store a file over the document that was listed, if there was one; what that came to since the listing.

        A document that was not listed and is at its first version may have come from the end of a pass that was
        interrupted, or from a write of ours whose reply was lost: it is added, not updated.
        """
        import aiohttp

        address = "/api/documents/by-external-id/" + quote(self._source.prefix + key, safe="")
        form = aiohttp.FormData(self._options.fields, quote_fields=False)
        with content.open("rb") as file:
            form.add_field("file", file, filename=shown_name(path.rpartition("/")[2]))
            named = _named(self._options.owner)
            async with self._client.open("PUT", address, data=form, params=named) as response:
                stored = await response.json()
        if response.status == CREATED:
            return "added"
        if document is None:
            return "added" if stored["version"] == 1 else "updated"
        return "unchanged" if stored["version"] == document["version"] else "updated"

    # -- documents without a file

    async def _emptied(self, key: str, document: Any) -> None:
        """A file holds only white space now: what it held before is not to be answered from."""
        if document is None:
            return
        self.report.gone += 1
        if self._may_delete <= 0:
            self.report.count(
                key, "kept", f"{EMPTY}, and no more may be deleted; if it is meant, say --allow-deletions"
            )
            return
        self._may_delete -= 1
        await self._delete(Gone(key, document, EMPTY))

    async def _delete(self, gone: Gone) -> None:
        outcome, reason = await self._deleted(gone)
        self.report.count(gone.key, outcome, reason)

    async def _deleted(self, gone: Gone) -> tuple[Outcome, str]:
        """Only in the version that was listed, and only while nothing is at its path."""
        if gone.missing and await asyncio.to_thread(self._is_back, path_of(gone.key)):
            return "kept", "its file has come back"
        if self._options.dry_run:
            return "deleted", gone.reason
        document = gone.document
        address, condition = f"/api/documents/{document['id']}", {"If-Match": f'"{document["version"]}"'}
        try:
            await patiently(lambda: self._client.call("DELETE", address, headers=condition))
        except CallFailed as error:
            if error.refused_with == CHANGED_MEANWHILE:
                return "kept", "it was changed meanwhile"
            if error.refused_with != GONE_ALREADY:
                return "failed", error.message
        return "deleted", gone.reason

    def _is_back(self, path: str) -> bool:
        """Whether something is there, or that cannot be told."""
        try:
            return self._source.tree.exists(path)
        except OSError:
            return True


def _named(owner: str | None) -> dict[str, str]:
    """The owner as a request's parameter."""
    return {} if owner is None else {"owner": owner}
