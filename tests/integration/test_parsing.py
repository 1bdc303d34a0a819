"""Documents of every kind through the real parser processes, the hostile ones included."""

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import docx
import fpdf
import openpyxl
import psutil
import pytest
from prometheus_client import REGISTRY
from tests.support.patience import within

from refdesk.contracts.errors import DocumentRejected, Overloaded, UnsupportedMediaType
from refdesk.indexing.chunking import chunk
from refdesk.indexing.parsing import ParsedDocument, ParserPool, ParsingLimits
from refdesk.indexing.sandbox import remove_abandoned
from refdesk.outside import media_types as kinds
from refdesk.outside.detection import HEAD_BYTES, detect_media_type
from refdesk.settings.reading import PoolSizes

FORMATS = Path(__file__).parents[2] / ".." / "shared" / "data" / "formats"
SLOW_MARKDOWN = b"*a* [b](c) `d` \n" * 400_000
"""Keeps a parser busy for many seconds."""

PROCESS: Any = psutil.Process  # untyped
THIS_PROCESS = PROCESS()

_TOKEN = re.compile(r"\w{1,6}|[^\w\s]")


@pytest.fixture
async def pool() -> AsyncIterator[ParserPool]:
    async with ParserPool() as pool:
        yield pool


def token_spans(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in _TOKEN.finditer(text)]


def parser_processes() -> list[Any]:
    return [child for child in THIS_PROCESS.children() if is_parser(child)]


def is_parser(process: Any) -> bool:
    try:
        return "refdesk.indexing.sandboxed" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def is_parsing(process: Any) -> bool:
    """A process gets its limit of computing time with its first document."""
    limits = Path(f"/proc/{process.pid}/limits").read_text()  # prlimit(2) asks for more rights than a parent has
    return "unlimited" not in next(line for line in limits.splitlines() if line.startswith("Max cpu time"))[:40]


async def until(condition: Any, *, timeout_s: float = 10.0) -> Any:
    async with within(timeout_s):
        while not (value := condition()):
            await asyncio.sleep(0.01)
        return value


def headings(parsed: ParsedDocument) -> list[tuple[int, str]]:
    return [(block.level, parsed.text[block.start : block.end]) for block in parsed.blocks if block.kind == "heading"]


def rows(parsed: ParsedDocument) -> list[str]:
    return [parsed.text[block.start : block.end] for block in parsed.blocks if block.kind in {"head", "row"}]


# Formats


async def test_markdown_keeps_headings_lists_tables_and_code(pool: ParserPool) -> None:
    """The structure that Markdown spells out arrives whole, and its marks are gone."""
    source = (
        "---\ntitle: 'Travel'\n---\n# Flights\n\nBook **early**, see [the list](http://x.example).\n\n"
        "1. first\n2. second\n\n| Class | Hours |\n|---|---|\n| Economy | 0-6 |\n\n```\na  =  1\n```\n<p>Raw <b>HTML</b></p>\n"
    )
    parsed = await pool.parse(source.encode(), kinds.MARKDOWN, "travel.md")
    assert parsed.title == "Travel"
    assert headings(parsed) == [(1, "Flights")]
    assert parsed.text == (
        "Flights\n\nBook early, see the list.\n\n1. first\n2. second\n\n"
        "Class | Hours\nEconomy | 0-6\n\na  =  1\n\nRaw HTML"
    )
    assert [block.kind for block in parsed.blocks] == [
        *("heading", "paragraph", "item", "item", "head", "row", "code", "paragraph")
    ]


async def test_a_page_of_front_matter_alone_is_its_title(pool: ParserPool) -> None:
    """Handbooks keep such pages as signposts; who looks for them should find them."""
    parsed = await pool.parse(b"---\ntitle: Billing policy\nredirect_to: /tock/\n---\n", kinds.MARKDOWN, "billing.md")
    assert (parsed.title, parsed.text) == ("Billing policy", "Billing policy")


async def test_html_reads_data_tables_as_rows_and_layout_tables_as_text(pool: ParserPool) -> None:
    """A table that only lays out the page becomes paragraphs; scripts and styles are no text."""
    source = (
        "<html><head><title>Caf&eacute; rules</title><style>p{}</style></head><body><script>alert(1)</script>"
        "<table><tr><td><h2>Prices</h2><p>As of May</p><table><tr><th>Drink<th>Price</tr><tr><td>Tea<td>2</tr></table>"
        "</td></tr></table><ul><li>one<li>two</ul></body></html>"
    )
    parsed = await pool.parse(source.encode(), kinds.HTML)
    assert parsed.title == "Café rules"
    assert headings(parsed) == [(2, "Prices")]
    assert rows(parsed) == ["Drink | Price", "Tea | 2"]
    assert parsed.text.endswith("- one\n- two")
    assert "alert" not in parsed.text


async def test_text_lines_broken_by_the_margin_become_paragraphs(pool: ParserPool) -> None:
    """Hard-wrapped lines are joined, short ones keep their ends; NUL and invisible characters vanish."""
    source = (
        "The quick brown fox jumps over the lazy dog and\nruns away into the\x00 forest\u200b behind the old mill.\n\n"
        "Roses are red\nViolets are blue\n"
    )
    parsed = await pool.parse(source.encode(), kinds.TEXT)
    assert parsed.text == (
        "The quick brown fox jumps over the lazy dog and runs away into the forest behind the old mill.\n\n"
        "Roses are red\nViolets are blue"
    )


async def test_csv_rows_become_readable_rows(pool: ParserPool) -> None:
    """Delimiter and header are found; quoted line ends stay inside their row."""
    parsed = await pool.parse('name;note\nAda;"first\nprogrammer"\n'.encode("utf-16"), kinds.CSV)
    assert rows(parsed) == ["name | note", "Ada | first programmer"]
    assert parsed.blocks[0].kind == "head"


async def test_docx_keeps_headings_and_tables(pool: ParserPool) -> None:
    """Word's styles give the headings, its tables the rows."""
    document = docx.Document()
    document.add_heading("Leave", level=1)
    document.add_paragraph("Everybody has thirty days.")
    document.add_heading("Parental leave", level=2)
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip([*table.rows[0].cells, *table.rows[1].cells], ["Who", "Weeks", "Parent", "14"], strict=True):
        cell.text = text
    buffer = io.BytesIO()
    document.save(buffer)
    parsed = await pool.parse(buffer.getvalue(), kinds.DOCX)
    assert headings(parsed) == [(1, "Leave"), (2, "Parental leave")]
    assert rows(parsed) == ["Who | Weeks", "Parent | 14"]


async def test_mail_has_its_subject_as_title_and_its_header_lines(pool: ParserPool) -> None:
    """Who wrote what to whom can be asked for."""
    source = b"From: ada@example.org\r\nTo: bob@example.org\r\nSubject: Lunch\r\n\r\nAt noon,\r\nin the hall.\r\n"
    parsed = await pool.parse(source, kinds.EML)
    assert parsed.title == "Lunch"
    assert "ada@example.org" in parsed.text
    assert "At noon" in parsed.text


async def test_a_fenced_process_needs_no_module_that_it_has_not_loaded(pool: ParserPool) -> None:
    """An invitation with an attached workbook is read by a process that has read nothing before."""
    calendar = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20260501T100000Z\nSUMMARY:Drill\nEND:VEVENT\nEND:VCALENDAR\n"
    book = io.BytesIO()
    workbook = openpyxl.Workbook()
    workbook.worksheets[0].append(["Hall", 4])
    workbook.save(book)
    message = EmailMessage()
    message["Subject"] = "=?gb2312?B?zfXOsA==?="
    message.set_content("Größe 4", charset="iso-8859-15")
    message.add_attachment(calendar.encode(), maintype="text", subtype="calendar", filename="drill.ics")
    message.add_attachment(book.getvalue(), maintype="application", subtype="octet-stream", filename="book.xlsx")
    parsed = await pool.parse(message.as_bytes(), kinds.EML, "x.eml")
    assert parsed.text.endswith(
        "Größe 4\n\ndrill.ics\n\nStart: 2026-05-01 10:00 UTC\nEvent: Drill\n\nAttachment: book.xlsx\n\nSheet\n\nHall | 4"
    )


def pdf(*pages: str, header: str = "", footer: str = "") -> bytes:
    document = fpdf.FPDF()
    document.set_font("Helvetica", size=11)
    for number, text in enumerate(pages, start=1):
        document.add_page()
        for line in (header, *text.split("\n"), footer.format(number)):
            if line:
                document.cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")
    return bytes(document.output())


async def test_pdf_pages_lose_their_running_lines_and_keep_their_numbers(pool: ParserPool) -> None:
    """On long pages a line that stands on each is read once, and one that counts them not at all; a paragraph knows its page."""
    words = ("one", "two", "three", "four")
    texts = [
        "\n".join(f"Line {line} of topic {word} stands on this page alone." for line in "abcdefghijkl")
        for word in words
    ]
    parsed = await pool.parse(pdf(*texts, header="Handbook 2024", footer="Page {} of 4"), kinds.PDF, "book.pdf")
    assert parsed.pages == 4
    assert parsed.text.count("Handbook") == 1
    assert "Page" not in parsed.text
    assert {
        (block.page, f"topic {word}" in parsed.text[block.start : block.end])
        for block in parsed.blocks
        for word in words
    } > {*((page, True) for page in (1, 2, 3, 4))}
    chunks = chunk(parsed, token_spans=token_spans, tokens_max=300)
    assert [(each.page, f"topic {word}" in each.text) for each, word in zip(chunks, words, strict=True)] == [
        *((page, True) for page in (1, 2, 3, 4))
    ]


async def test_pdf_words_broken_at_line_ends_are_joined(pool: ParserPool) -> None:
    """A hyphen at a line's end goes, unless the document writes the word with it elsewhere."""
    text = "All the neces-\nsary well-known infor-\nmation about the well-\nknown rules of information."
    parsed = await pool.parse(pdf(text), kinds.PDF)
    assert "necessary" in parsed.text
    assert "information about the well-known rules" in parsed.text.replace("\n", " ")


# Refusals


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "media_type", "message"),
    [
        (b"", kinds.TEXT, "x is empty; upload"),
        (b"   \n", kinds.TEXT, "x contains no text"),
        (b"%PDF-1.7 nonsense", kinds.PDF, "x is damaged .*save it again"),
        (pdf(""), kinds.PDF, r"x has no text layer, and there is no text recognition"),
        (b"PK\x03\x04 nonsense", kinds.DOCX, "x is damaged"),
        (zip_of({"word/document.xml": b" " * 40_000_000}), kinds.DOCX, "unpacks to .* REFDESK_PARSE_ARCHIVE_RATIO_MAX"),
        (zip_of({str(n): b"" for n in range(10_001)}), kinds.DOCX, "holds 10,001 files .*ARCHIVE_MEMBERS_MAX"),
        (b"MIME-Version: 1.0\nContent-Type: multipart/encrypted\n\nx", kinds.EML, "decrypt it"),
        ("Content-Type: multipart/encrypted;".encode("utf-16-le"), kinds.MSG, "decrypt it"),
        (b"x", "application/x-unheard-of", "cannot be read .*convert it"),
    ],
)
async def test_a_refusal_says_what_is_the_matter_and_what_to_do(
    pool: ParserPool, content: bytes, media_type: str, message: str
) -> None:
    """Each unreadable document ends with a reason its owner can act on, and is not tried again."""
    with pytest.raises(DocumentRejected, match=message) as caught:
        await pool.parse(content, media_type, "x")
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (ParsingLimits(pages_max=2), r"x has 3 pages; the limit is 2; .*REFDESK_PARSE_PAGES_MAX"),
        (ParsingLimits(characters_max=30), r"more than 30 characters .*REFDESK_PARSE_CHARACTERS_MAX"),
        (ParsingLimits(blocks_max=1), r"more than 1 paragraphs .*REFDESK_PARSE_BLOCKS_MAX"),
    ],
)
async def test_a_limit_names_its_setting(limits: ParsingLimits, message: str) -> None:
    """Whoever runs into a ceiling learns how high it is and how to raise it."""
    async with ParserPool(limits=limits) as pool:
        with pytest.raises(DocumentRejected, match=message):
            await pool.parse(pdf("some words here", "more words", "and more"), kinds.PDF, "x")


def killed_so_far() -> Counter[str]:
    """Parser processes that ended on a document, by reason."""
    [family] = [family for family in REGISTRY.collect() if family.name == "refdesk_parse_killed"]
    return Counter(
        {one.labels["reason"]: int(one.value) for one in family.samples if one.name == "refdesk_parse_killed_total"}
    )


@pytest.mark.parametrize(
    ("limits", "setting", "reason"),
    [
        (ParsingLimits(wall_s=0.5), "REFDESK_PARSE_SECONDS_MAX", "time"),
        (ParsingLimits(cpu_s=1), "REFDESK_PARSE_SECONDS_MAX", "cpu"),
        (ParsingLimits(memory_bytes_max=96 * 1024 * 1024), "REFDESK_PARSE_MEMORY_BYTES_MAX", "memory"),
    ],
)
async def test_a_document_that_takes_too_much_is_stopped_and_the_pool_goes_on(
    limits: ParsingLimits, setting: str, reason: str
) -> None:
    """Time, computing and memory end with the process, which is counted; the next document gets a new one."""
    before = killed_so_far()
    async with ParserPool(limits=limits, sizes=PoolSizes(workers=1)) as pool:
        with pytest.raises(DocumentRejected, match=setting):
            await pool.parse(SLOW_MARKDOWN, kinds.MARKDOWN, "slow.md")
        assert (await pool.parse(b"next", kinds.TEXT)).text == "next"
    assert killed_so_far() - before == Counter({reason: 1})


def with_attachments(*attachments: tuple[bytes, str]) -> bytes:
    made = EmailMessage()
    made["Subject"] = "Offer"
    made.set_content("See attached.")
    for content, name in attachments:
        made.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return made.as_bytes()


SLOW = (SLOW_MARKDOWN, "slow.md")
PATIENCE_S = 3.0
"""For an attachment: far less than the slow one takes, far more than a parser takes to start on a busy machine."""


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (ParsingLimits(wall_s=PATIENCE_S), "REFDESK_PARSE_SECONDS_MAX"),
        (ParsingLimits(cpu_s=2), "REFDESK_PARSE_SECONDS_MAX"),
        (ParsingLimits(memory_bytes_max=160 * 1024 * 1024), "REFDESK_PARSE_MEMORY_BYTES_MAX"),
    ],
)
async def test_an_attachment_that_takes_too_much_is_named_and_the_mail_is_read(
    limits: ParsingLimits, setting: str
) -> None:
    """So are the other attachments."""
    async with ParserPool(limits=limits, sizes=PoolSizes(workers=1)) as pool:
        mail = with_attachments((b"Copper: 4 euros.", "copper.txt"), SLOW, (b"Tin: 5 euros.", "tin.txt"))
        parsed = await pool.parse(mail, kinds.EML, "offer.eml")
    assert all(text in parsed.text for text in ("See attached.", "Copper: 4", "Attachment: slow.md", "Tin: 5"))
    (note,) = parsed.notes
    assert (note.code, note.attachment, setting in note.text) == ("attachment_unread", "slow.md", True)


async def test_a_mail_is_read_whatever_its_attachments_are() -> None:
    """Behind the third that takes the parser along no more are tried."""
    async with ParserPool(limits=ParsingLimits(wall_s=PATIENCE_S), sizes=PoolSizes(workers=1)) as pool:
        mail = with_attachments(SLOW, (b"Copper: 4 euros.", "copper.txt"), SLOW, SLOW, (b"Tin: 5 euros.", "tin.txt"))
        parsed = await pool.parse(mail, kinds.EML, "offer.eml")
    assert "See attached." in parsed.text and "Copper: 4" in parsed.text
    assert [note.attachment for note in parsed.notes] == ["slow.md", "slow.md", "slow.md", "tin.txt"]


async def test_pages_that_nobody_could_recognise_are_noted(pool: ParserPool) -> None:
    """Where others do have text: the document is worth having, and says what is missing."""
    book = fpdf.FPDF()
    book.set_font("Helvetica", size=12)
    for text in ("Rents rise in May.", "", "Fees fall in June."):
        book.add_page()
        book.cell(0, 10, text)
    parsed = await pool.parse(bytes(book.output()), kinds.PDF, "rents.pdf")
    assert [(note.code, "no text on page 2: rents.pdf has no text layer" in note.text) for note in parsed.notes] == [
        ("pages_unread", True)
    ]


# Processes


async def test_a_process_is_reused_and_ends_when_idle() -> None:
    """Many documents share one process; without work none is left."""
    async with ParserPool(sizes=PoolSizes(idle_s=0.2)) as pool:
        for _ in range(3):
            await pool.parse(b"text", kinds.TEXT)
        assert len(parser_processes()) == 1
        await until(lambda: not parser_processes())
        assert (await pool.parse(b"again", kinds.TEXT)).text == "again"
    assert not parser_processes()


async def test_a_process_shares_its_parents_processors_but_not_its_terminal(pool: ParserPool) -> None:
    """It stands back as its parent does: with the same niceness, in the same session. Ctrl-C does not reach its group."""
    await pool.parse(b"text", kinds.TEXT)
    (process,) = parser_processes()
    assert process.nice() == THIS_PROCESS.nice()
    assert os.getsid(process.pid) == os.getsid(0)
    assert os.getpgid(process.pid) == process.pid


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processors cannot be chosen here")
async def test_a_process_spares_a_processor() -> None:
    """Where there is another one for it."""
    async with ParserPool(limits=ParsingLimits(processors_spared=1)) as pool:
        await pool.parse(b"text", kinds.TEXT)
        (process,) = parser_processes()
        own = sorted(os.sched_getaffinity(0))
        assert sorted(os.sched_getaffinity(process.pid)) == (own[1:] or own)


async def test_a_worn_process_is_replaced() -> None:
    """After its share of documents a process goes."""
    async with ParserPool(sizes=PoolSizes(documents_per_worker_max=1)) as pool:
        await pool.parse(b"text", kinds.TEXT)
        assert not parser_processes()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the limits of another process")
@pytest.mark.parametrize("crashes", [1, 2])
async def test_a_crash_is_survived_once(crashes: int) -> None:
    """A document whose process dies under it is read by a fresh one; a second death is the document's fault."""
    before = killed_so_far()
    async with ParserPool(sizes=PoolSizes(workers=1)) as pool:
        parsing = asyncio.create_task(pool.parse(SLOW_MARKDOWN[:400_000], kinds.MARKDOWN, "x.md"))
        killed: set[int] = set()
        for _ in range(crashes):
            victim = await until(
                lambda: next((p for p in parser_processes() if p.pid not in killed and is_parsing(p)), None)
            )
            killed.add(victim.pid)
            victim.send_signal(signal.SIGSEGV)
        if crashes == 1:
            assert (await parsing).blocks
        else:
            with pytest.raises(DocumentRejected, match=r"x\.md crashed the parser twice"):
                await parsing
    assert killed_so_far() - before == Counter({"crash": crashes})


async def test_a_hung_document_delays_only_its_own_worker() -> None:
    """While one process is busy the other one reads on, and the event loop with it."""
    async with ParserPool(sizes=PoolSizes(workers=2)) as pool:
        slow = asyncio.create_task(pool.parse(SLOW_MARKDOWN, kinds.MARKDOWN))
        for _ in range(20):
            await pool.parse(b"quick", kinds.TEXT)
        assert not slow.done()
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert len(parser_processes()) == 1


async def test_a_full_queue_refuses_at_once() -> None:
    """Beyond the queue's bound nobody waits."""
    async with ParserPool(sizes=PoolSizes(workers=1, queue_max=1)) as pool, asyncio.TaskGroup() as group:
        tasks = [group.create_task(pool.parse(b"text", kinds.TEXT)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="already wait"):
            await pool.parse(b"one too many", kinds.TEXT)
        assert len(tasks) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
async def test_a_parser_never_outlives_its_parent() -> None:
    """Even when the parent is killed, and while the parser is busy."""
    script = (
        "import asyncio, psutil\nfrom refdesk.indexing.parsing import ParserPool\n"
        "async def main():\n"
        "    async with ParserPool() as pool:\n"
        "        await pool.parse(b'warm', 'text/plain')\n"
        "        print(psutil.Process().children()[0].pid, flush=True)\n"
        "        await pool.parse(b'*a* [b](c) ' * 500_000, 'text/markdown')\n"
        "asyncio.run(main())\n"
    )
    env = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env)
    assert parent.stdout is not None
    with parent, parent.stdout:
        child: Any = PROCESS(int(await asyncio.to_thread(parent.stdout.readline)))
        parent.kill()
        await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


async def test_what_a_dead_parser_leaves_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent was killed and could not; a living parser keeps its directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with ParserPool() as pool:
        await pool.parse(b"words", kinds.TEXT)
        (living,) = tmp_path.iterdir()
        dead = Path(tempfile.mkdtemp(prefix="refdesk-parser-"))
        (dead / "stderr").write_bytes(b"")
        remove_abandoned(starting_s_max=0)
        assert (living.exists(), dead.exists()) == (True, False)
    assert not list(tmp_path.iterdir())


async def test_a_parser_knows_no_secrets(pool: ParserPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is made, not inherited."""
    monkeypatch.setenv("REFDESK_TEST_SECRET", "canary")
    await pool.parse(b"text", kinds.TEXT)
    (process,) = parser_processes()
    assert "REFDESK_TEST_SECRET" not in process.environ()


# The collection of real and hostile files


def squashed(text: str) -> str:
    """Without what layout may change: white space, cell delimiters, hyphens, leader dots, ligatures, control characters."""
    kept = (c for c in unicodedata.normalize("NFKC", text) if not c.isspace() and unicodedata.category(c) != "Cc")
    return "".join(kept).translate(str.maketrans("", "", "|;,-."))


async def outcome(pool: ParserPool, row: dict[str, Any]) -> tuple[str, str]:
    """("parsed", text of all chunks) or ("refused", message)."""
    path = FORMATS / row["file"]
    content = path.read_bytes()
    try:
        media_type = detect_media_type(content[:HEAD_BYTES], path.name, None)
        parsed = await pool.parse(content, media_type, path.name)
    except (DocumentRejected, UnsupportedMediaType) as refusal:
        return "refused", refusal.message
    return "parsed", "\n".join(each.text for each in chunk(parsed, token_spans=token_spans))


@pytest.mark.skipif(not FORMATS.exists(), reason=f"NOT MEASURED: the collection of files is absent ({FORMATS})")
async def test_the_collection_is_read_or_refused_with_a_reason_within_its_limits() -> None:
    """102 real, damaged and hostile files: time, memory, and the share of known lines found in the passages."""
    table = [json.loads(line) for line in (FORMATS / "manifest.jsonl").read_text().splitlines()]
    counts: Counter[tuple[str, str]] = Counter()
    expected = found = 0
    peak_bytes, slowest_s = 0, 0.0
    async with ParserPool(sizes=PoolSizes(workers=1)) as pool:
        for row in table:
            started = time.perf_counter()
            ended, text = await outcome(pool, row)
            slowest_s = max(slowest_s, time.perf_counter() - started)
            peak_bytes = max([peak_bytes, *map(peak_of, parser_processes())])
            counts[row["class"], ended] += 1
            assert len(text) > 20 or ended == "parsed", row["file"]
            assert row["class"] != "ok" or (ended == "parsed" and text.strip()), (row["file"], text)
            snippets = [squashed(snippet) for snippet in row.get("expected_snippets") or []]
            haystack = squashed(text)
            expected += len(snippets)
            found += sum(snippet in haystack for snippet in snippets)
    sys.stdout.write(f"\n{counts}\n{found}/{expected} snippets, {slowest_s:.1f} s, {peak_bytes / 2**20:.0f} MiB\n")
    assert slowest_s < 30
    assert peak_bytes < 512 * 2**20
    assert found / expected >= 0.95


def peak_of(process: Any) -> int:
    status = Path(f"/proc/{process.pid}/status")
    match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(match[1]) * 1024 if match else 0
