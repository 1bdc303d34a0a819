"""Ordinary text formats: Markdown's footnotes, contact cards, subtitles, logs and settings, notebooks, feeds."""

import json

import pytest
from tests.support.reading import lines, read

from refdesk.indexing import extraction
from refdesk.outside import media_types as kinds
from refdesk.outside.detection import detect_media_type


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "Book early.[^1] Really.\n\nNext.\n\n[^1]: At least *two* weeks.\n    In writing.\n",
            ["paragraph: Book early. Really.", "paragraph: At least two weeks. In writing.", "paragraph: Next."],
        ),
        ("Text.[^a]\n\n[^a]: Word\n", ["paragraph: Text.", "paragraph: Word"]),
        ("# Leave[^1]\n\n[^1]: Of all.\n\nThirty days.", ["heading1: Leave", "paragraph: Of all.", "paragraph: Thirty days."]),
        (
            "| Class[^1] | Days |\n|---|---|\n| A | 30 |\n| B | 25 |\n\n[^1]: See annex.",
            ["head: Class | Days", "row: A | 30", "row: B | 25", "paragraph: See annex."],
        ),
        ("One[^x] and again[^x].\n\n[^x]: Once.", ["paragraph: One and again.", "paragraph: Once."]),
        ("- first[^1]\n- second\n\n[^1]: Note.", ["item: - first", "paragraph: Note.", "item: - second"]),
        ("Nobody marks it.\n\n[^9]: Still said.", ["paragraph: Nobody marks it.", "paragraph: Still said."]),
        ("No note[^2] here, `[^1]` is code.\n\n[^1]: N.", ["paragraph: No note[^2] here, [^1] is code.", "paragraph: N."]),
        ("```\n[^1]: a regex\n```\n\n    [^1]: too\n", ["code: [^1]: a regex", "code: [^1]: too"]),
        ("> [!WARNING]\n> Keep receipts.", ["paragraph: Warning: Keep receipts."]),
        ("+++\ntitle = 'Plus'\ndraft = true\n+++\n\nText.", ["paragraph: Text."]),
    ],
)  # fmt: skip
def test_markdown_is_read_as_it_is_shown(source: str, expected: list[str]) -> None:
    """A footnote comes once, behind what it is about, and leaves no mark; alerts say what they are; front matter is no text."""
    assert lines(read(source, kinds.MARKDOWN)) == expected


def test_the_front_matter_of_hugo_names_the_page() -> None:
    """As that of Jekyll does."""
    assert read("+++\ntitle = 'Plus'\n+++\n\nText.", kinds.MARKDOWN).title == "Plus"


CARDS = (
    "BEGIN:VCARD\r\nVERSION:3.0\r\nN:Keller;Maria;;Dr.;\r\nFN:Dr. Maria Keller\r\nORG:Example Ltd;Purchasing\r\n"
    "item1.TEL;TYPE=WORK,VOICE:+49 30 9018 12\r\nEMAIL;TYPE=INTERNET:maria@example.org\r\n"
    "ADR;TYPE=WORK:;;Hafenstr. 7\\, left;Kiel;;24103;Germany\r\nNOTE:Only on\r\n  Tuesdays\\nafter ten\r\n"
    "PHOTO;ENCODING=b;TYPE=JPEG:/9j/4AAQ\r\n SkZJRg\r\nEND:VCARD\r\n"
    "BEGIN:VCARD\r\nVERSION:2.1\r\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:J=C3=B6nsson;Bo\r\n"
    "NOTE;ENCODING=QUOTED-PRINTABLE;CHARSET=UTF-8:=C3=BCber =\r\nMittag\r\nEND:VCARD\r\n"
    "BEGIN:VCARD\r\nVERSION:4.0\r\nORG:Harbour office\r\nTEL;VALUE=uri;TYPE=\"cell,text\":tel:+46-70-1\r\nEND:VCARD\r\n"
)  # fmt: skip


def test_contact_cards_say_who_somebody_is_and_how_to_reach_them() -> None:
    """Folded, grouped and encoded lines of three versions; pictures are not read, and a card is known without a name."""
    assert detect_media_type(CARDS.encode(), "export", None) == kinds.CARDS
    assert lines(read(CARDS, kinds.CARDS)) == [
        "heading2: Dr. Maria Keller",
        "paragraph: Organisation: Example Ltd, Purchasing\nTelephone (work): +49 30 9018 12\n"
        "E-mail: maria@example.org\nAddress (work): Hafenstr. 7, left, Kiel, 24103, Germany\n"
        "Note: Only on Tuesdays\nafter ten",
        *("heading2: Bo Jönsson", "paragraph: Note: über Mittag"),
        *("heading2: Harbour office", "paragraph: Organisation: Harbour office\nTelephone (cell): +46-70-1"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (
            "1\r\n00:00:01,000 --> 00:00:04,000\r\nWelcome to the safety\r\nbriefing. <i>The exits</i>\r\n\r\n"
            "2\r\n00:01:04,500 --> 00:01:08,000\r\n{\\an8}are on both sides.\r\n",
            kinds.SUBRIP,
        ),
        (
            "WEBVTT - Safety\n\nNOTE internal\n\nSTYLE\n::cue { color: red }\n\nintro\n00:00:01.000 --> 00:04.000 align:start\n"
            "Welcome to the safety briefing.\n\n00:04.500 --> 00:08.000\nThe exits <c.loud>are</c> on <00:05.000>both sides.\n",
            kinds.WEBVTT,
        ),
    ],
)
def test_subtitles_are_what_is_said(source: str, kind: str) -> None:
    """Sentences go on from cue to cue; numbers, times, settings, styles and comments are not in their way."""
    said = "Welcome to the safety briefing. The exits are on both sides."
    assert lines(read(source, kind)) == [f"paragraph: [00:00:01] {said}"]


def test_entities_in_subtitles_are_characters() -> None:
    """As players show them."""
    source = "WEBVTT\n\n00:01.000 --> 00:04.000\nWait 5&nbsp;min &amp; close &lt;it&gt;.\n"
    assert lines(read(source, kinds.WEBVTT)) == ["paragraph: [00:01] Wait 5 min & close <it>."]


def test_long_subtitles_are_paragraphs_with_their_times_and_speakers() -> None:
    """So that a passage can be looked up in the recording."""
    cues = "\n\n".join(
        f"00:{n:02}:00.000 --> 00:{n:02}:05.000\n<v Ada>Sentence {n} is about sixty characters long, all in all."
        for n in range(20)
    )
    parsed = read(f"WEBVTT\n\n{cues}\n", kinds.WEBVTT)
    begins = [line[:40] for line in lines(parsed)]
    assert begins[:2] == ["paragraph: [00:00:00] Ada: Sentence 0 is", "paragraph: [00:07:00] Ada: Sentence 7 is"]
    assert all(f"Sentence {n} is" in parsed.text for n in range(20))


@pytest.mark.parametrize(
    "kept",
    [
        "2026-05-04 09:00:05,456 ERROR [worker-3] Payment 4711 failed: timeout after 30 s\nTraceback (most recent call last):",
        "May  4 09:00:05 host billing: payment 4711 failed for the second time\nERROR disk full",
        "[01.05.26, 10:00:00] Ada: Pump 7 leaks again\n[01.05.26, 10:01:00] Ben: I closed valve 3",
        "[database]\nhost = db.example.org\nport=5432",
        "# Where the desk keeps its documents, and how long it does so\ndb.url=jdbc:x\ndb.user=app",
        "-- Total per region, without returns, of the year\n-- before\nSELECT sum(x) FROM t;",
    ],
)
def test_lines_of_logs_and_settings_stay_lines(kept: str) -> None:
    """They do not run on into each other like the lines of a paragraph."""
    assert read(kept, kinds.TEXT).text == kept


def test_a_notebook_of_the_third_format_is_read() -> None:
    """Its cells stand on sheets, and its headings are cells."""
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Pumps"]},
        {"cell_type": "code", "input": ["x = 1"], "outputs": [{"output_type": "pyout", "text": ["1"]}]},
    ]
    source = json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]})
    assert lines(read(source, kinds.NOTEBOOK)) == ["heading2: Pumps", "code: x = 1", "code: 1"]


def test_tasks_and_entries_of_a_calendar_are_called_so() -> None:
    """They are no events."""
    entry = "BEGIN:{0}\nSUMMARY:Order bolts\nEND:{0}\n"
    source = f"BEGIN:VCALENDAR\n{''.join(map(entry.format, ('VEVENT', 'VTODO', 'VJOURNAL')))}END:VCALENDAR\n"
    assert lines(read(source, kinds.CALENDAR)) == [
        f"paragraph: {each}: Order bolts" for each in ("Event", "Task", "Entry")
    ]


@pytest.mark.parametrize("kind", [kinds.LATEX, kinds.ORG, kinds.RST])
def test_a_text_whose_marks_nobody_follows_is_read_as_it_is(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has text, whatever its reader makes of it."""
    monkeypatch.setattr(extraction, "read_tree", lambda *_: None)
    assert lines(read("Open the valve.", kind)) == ["paragraph: Open the valve."]


def test_the_errors_of_a_notebook_are_read() -> None:
    """People look for what went wrong."""
    outputs = [
        {"output_type": "stream", "text": ["42 parts\n"]},
        {
            "output_type": "error",
            "ename": "ValueError",
            "evalue": "no such part",
            "traceback": ["\x1b[0;31mValueError"],
        },
    ]
    book = {"cells": [{"cell_type": "code", "source": ["count()"], "outputs": outputs}], "nbformat": 4}
    assert lines(read(json.dumps(book), kinds.NOTEBOOK)) == [
        "code: count()",
        "code: 42 parts",
        "code: ValueError: no such part",
    ]


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<![CDATA[<p>The gate is <b>closed</b> on Monday.</p>]]>", ["item: about: The gate is closed on Monday."]),
        ("&lt;p&gt;One.&lt;/p&gt;&lt;p&gt;Two.&lt;/p&gt;", ["item: about", "paragraph: One.", "paragraph: Two."]),
        (
            "<![CDATA[<h2>Prices</h2><table><tr><th>Part<th>Price<tr><td>Bolt<td>1.25</table>]]>",
            ["item: about", "paragraph: Prices", "head: Part | Price", "row: Bolt | 1.25"],
        ),
        ("if a &lt; b and b &gt; c", ["item: about: if a < b and b > c"]),
        ("Use List&lt;Part&gt; here", ["item: about: Use List<Part> here"]),
    ],
)
def test_html_inside_xml_is_read_as_html(inside: str, expected: list[str]) -> None:
    """Feeds carry pages in it; signs that are no marks stay."""
    assert lines(read(f"<feed><about>{inside}</about></feed>", kinds.XML)) == ["item: feed", *expected]
