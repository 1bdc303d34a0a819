"""A one-way mirror: what a source holds becomes documents, what vanishes there is deleted here.

    source ── list ──▶ paths ┐
                             ├─ by external id ──▶ new · known · gone
    Refdesk ── list ──▶ ids  ┘         │
                                       └─ by content hash ──▶ added · updated · unchanged

A file's document has the external id ``<name>/<path>``. Only documents of one owner below ``<name>/`` are touched; those of
others stay. Nothing is remembered in between: a pass that is interrupted and begun again finds done what was done.
What it does *not* do: know that a remote file is unchanged without reading it, or carry changes back.
"""

import asyncio
import hashlib
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal
from urllib.parse import quote

import aiohttp
import fsspec
import msgspec

from refdesk.app.commands.client import CallFailed, Client, patiently
from refdesk.contracts.access import LOCAL_ADMINISTRATOR, OPERATOR
from refdesk.contracts.errors import InvalidRequest

AT_ONCE = 4
"""Files read and sent at a time."""
PAGE = 1000
PIECE_BYTES = 1 << 18
DEPTH_MAX = 64
"""Folders within folders: where links lead round in a circle, it ends."""
LOCAL = ("file", "local")

Outcome = Literal["added", "updated", "unchanged"]


class Failed(msgspec.Struct, frozen=True):
    path: str
    reason: str


class Report(msgspec.Struct):
    """How many files came to which end."""

    added: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    failed: list[Failed] = msgspec.field(default_factory=list)

    def count(self, outcome: Outcome) -> None:
        setattr(self, outcome, getattr(self, outcome) + 1)


class Source:
    """A folder, here or behind any URL that fsspec knows. Blocking: call it from a thread."""

    def __init__(self, url: str, *, name: str | None = None) -> None:
        """Raises InvalidRequest when the URL's kind is unknown or needs a package that is not installed."""
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)  # type: ignore[no-untyped-call]
        except (ImportError, ValueError) as error:
            raise InvalidRequest(f"{url} cannot be read: {error}.".replace("..", ".")) from error
        protocol = self._files.protocol
        local = (protocol if isinstance(protocol, str) else protocol[0]) in LOCAL
        own = f"file://{socket.gethostname()}{Path(self._root).absolute()}" if local else url
        self.prefix = (name or own).rstrip("/") + "/"

    def paths(self) -> list[str]:
        """The files' paths below the root, hidden ones left out. Raises InvalidRequest when the listing is not complete."""
        try:
            if not self._files.isdir(self._root):
                raise InvalidRequest(f"There is no folder {self._root}. Nothing was changed.")
            walked = self._files.walk(self._root, maxdepth=DEPTH_MAX, on_error="raise")
            found = [f"{folder}/{name}" for folder, _, names in walked for name in names]
        except OSError as error:
            raise InvalidRequest(f"{self._root} cannot be listed ({error}). Nothing was changed.") from error
        below = (path.removeprefix(self._root.rstrip("/")).lstrip("/") for path in found)
        return sorted(path for path in below if not any(part.startswith(".") for part in path.split("/")))

    def read(self, path: str, into: IO[bytes]) -> str:
        """Copy a file; its sha256. Raises OSError."""
        digest = hashlib.sha256()
        with self._files.open(f"{self._root.rstrip('/')}/{path}", "rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
                into.write(piece)
        into.flush()
        return digest.hexdigest()


class Mirror:
    """One source mirrored into one Refdesk. ``fields`` (``readers``, ``tags``) go with every file.

    The documents are those of ``owner``; None: of whoever calls. Only administrators may name another.
    """

    def __init__(
        self,
        client: Client,
        source: Source,
        *,
        fields: dict[str, str],
        owner: str | None = None,
        dry_run: bool = False,
        allow_empty: bool = False,
    ) -> None:
        self._client = client
        self._source = source
        self._fields = fields
        self._owner = owner
        self._dry_run = dry_run
        self._allow_empty = allow_empty

    async def run(self, *, on_listed: Callable[[int], None], on_done: Callable[[], None]) -> Report:
        """One pass. Raises InvalidRequest and CallFailed when it cannot begin; later failures are in the report."""
        paths = await asyncio.to_thread(self._source.paths)
        known = await self._known()
        if not known and self._owner is None:
            await self._refuse_a_second_copy()
        gone = [known[key] for key in known.keys() - {self._source.prefix + path for path in paths}]
        if known and not paths and not self._allow_empty:
            raise InvalidRequest(
                f"The source is empty and {len(known)} documents came from it. If they are to be deleted, say --allow-empty."
            )
        on_listed(len(paths) + len(gone))
        report = Report()
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(path: str) -> None:
            async with slots:
                await self._file(path, known.get(self._source.prefix + path), report)
            on_done()

        async with asyncio.TaskGroup() as tasks:
            for path in paths:
                tasks.create_task(one(path))
        for document in gone:
            await self._delete(document, report)
            on_done()
        return report

    async def _known(self) -> dict[str, Any]:
        """The source's documents by external id."""
        known: dict[str, Any] = {}
        cursor: str | None = ""
        while cursor is not None:
            page = await self._page(owner=self._owner, limit=PAGE, cursor=cursor)
            known |= {document["external_id"]: document for document in page["documents"]}
            cursor = page.get("next_cursor")
        return known

    async def _page(self, *, owner: str | None, limit: int, cursor: str = "") -> Any:
        parameters = {"prefix": self._source.prefix, "limit": str(limit), "cursor": cursor, **_named(owner)}
        return await self._client.call("GET", "/api/documents/by-external-id", params=parameters)

    async def _refuse_a_second_copy(self) -> None:
        """Raises InvalidRequest when Refdesk's own account has mirrored this source: an administrator may mean to go on there."""
        for owner in (OPERATOR.id, LOCAL_ADMINISTRATOR.id):
            try:
                page = await self._page(owner=owner, limit=1)
            except CallFailed as error:
                if error.details.get("status") == 403:
                    return  # an administrator's question
                raise
            if page["documents"]:
                raise InvalidRequest(
                    f"Documents of this source belong to `{owner}`, and none to you. To go on with those, say "
                    f"--owner {owner}; for a second copy, say --owner with your own id (`refdesk keys list`)."
                )

    async def _file(self, path: str, document: Any, report: Report) -> None:
        with tempfile.NamedTemporaryFile() as copy:
            try:
                digest = await asyncio.to_thread(self._source.read, path, copy)
                if document is not None and self._same(document, digest):
                    report.count("unchanged")
                elif self._dry_run:
                    report.count("added" if document is None else "updated")
                else:
                    report.count(await patiently(lambda: self._put(path, Path(copy.name), document)))
            except (CallFailed, OSError) as error:
                report.failed.append(Failed(path, str(error)))

    def _same(self, document: Any, digest: str) -> bool:
        """Whether a write would change nothing."""
        wanted = ((name, {part.strip() for part in given.split(",")}) for name, given in self._fields.items())
        return bool(document["content_sha256"] == digest) and all(
            set(document[name]) == given for name, given in wanted
        )

    async def _put(self, path: str, content: Path, document: Any) -> Outcome:
        """Store a file over the document that was listed, if there was one; what that came to since the listing.

        A document that was not listed and is at its first version may have come from the end of a pass that was
        interrupted, or from a write of ours whose reply was lost: it is added, not updated.
        """
        address = "/api/documents/by-external-id/" + quote(self._source.prefix + path, safe="")
        form = aiohttp.FormData(self._fields, quote_fields=False)
        with content.open("rb") as file:
            form.add_field("file", file, filename=PurePosixPath(path).name)
            async with self._client.open("PUT", address, data=form, params=_named(self._owner)) as response:
                stored = await response.json()
        if response.status == 201:
            return "added"
        if document is None:
            return "added" if stored["version"] == 1 else "updated"
        return "unchanged" if stored["version"] == document["version"] else "updated"

    async def _delete(self, document: Any, report: Report) -> None:
        try:
            if not self._dry_run:
                await patiently(lambda: self._client.call("DELETE", f"/api/documents/{document['id']}"))
        except CallFailed as error:
            report.failed.append(Failed(document["external_id"].removeprefix(self._source.prefix), str(error)))
        else:
            report.deleted += 1


def _named(owner: str | None) -> dict[str, str]:
    return {} if owner is None else {"owner": owner}
