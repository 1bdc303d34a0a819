"""AsciiDoc is read as its reader sees it."""

import pytest
from tests.support.reading import lines, read

from refdesk.outside import media_types as kinds
from refdesk.outside.detection import detect_media_type


def asciidoc(text: str) -> list[str]:
    return lines(read(text, kinds.ASCIIDOC))


def test_a_document_is_read_without_its_marks_settings_and_comments() -> None:
    """Headings with their levels, paragraphs joined, settings put where they are named, comments left out."""
    text = (
        "= Leave Guide\nAda Jones <ada@example.org>\nv2, 2026-05-01\n:days: 28\n:!toc:\n:long: one \\\n  two\n\n"
        "Everybody has *{days} days* of _paid_ leave,\nand {long} more. {unknown}\n// not said\n\n////\nnor this\n////\n"
        "[#later]\n== Carrying over [[x]]\n\n[NOTE]\nUse it by `31 March`.\n\nTIP: Ask early.\n\nOld Style\n---------\n\nText.\n"
    )
    assert asciidoc(text) == [
        *("heading1: Leave Guide", "paragraph: Ada Jones <ada@example.org>\nv2, 2026-05-01"),
        "paragraph: Everybody has 28 days of paid leave,\nand one two more. {unknown}",
        *("heading2: Carrying over", "paragraph: Note: Use it by 31 March.", "paragraph: Tip: Ask early."),
        *("heading2: Old Style", "paragraph: Text."),
    ]
    assert read(text, kinds.ASCIIDOC).title == "Leave Guide"


def test_lists_are_numbered_and_keep_what_is_attached_to_an_item() -> None:
    """Nested ones too; terms stand with their descriptions."""
    text = (
        ". Open the valve\n.. slowly\n+\nIt hisses.\n.. further\n. Wait\n+\n----\nwatch -n 1\n----\n. Close it\n\n"
        "* one\n  goes on\n** deeper\n- other\n\nCPU:: The processor.\nRAM::\n  Memory.\nDisk::\n\n* large\n"
    )
    assert asciidoc(text) == [
        *("item: 1. Open the valve", "item: 1. slowly", "paragraph: It hisses.", "item: 2. further", "item: 2. Wait"),
        *("code: watch -n 1", "item: 3. Close it", "item: - one\ngoes on", "item: - deeper", "item: - other"),
        *("item: - CPU: The processor.", "item: - RAM: Memory.", "item: - Disk", "item: - large"),
    ]


def test_what_stands_between_fences_is_code_or_text_by_its_fence() -> None:
    """Code as it is, with its marks; examples, quotations and sidebars are text; what is passed through is HTML."""
    text = (
        ".Start it\n[source,bash]\n----\nrun *all* // now\n\n= not a heading\n----\n"
        "====\nAn _example_.\n====\n____\nQuoted.\n____\n"
        "++++\n<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table>\n++++\n....\n|literal|\n....\n"
        "```python\nx = 1\n```\n indented *as it is*\n"
    )
    assert asciidoc(text) == [
        *(
            "paragraph: Start it",
            "code: run *all* // now\n\n= not a heading",
            "paragraph: An example.",
            "paragraph: Quoted.",
        ),
        *("head: A | B", "row: 1 | 2", "code: |literal|", "code: x = 1", "code:  indented *as it is*"),
    ]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            "|===\n|Part |Price\n\n|Bolt |1.25\n|Nut |0.75\n|===",
            ["head: Part | Price", "row: Bolt | 1.25", "row: Nut | 0.75"],
        ),
        (
            '[cols="1,2*",options="header"]\n|===\n|Part\n|Price\n|Stock\n|Bolt\n|1.25\n|300\n|===',
            ["head: Part | Price | Stock", "row: Bolt | 1.25 | 300"],
        ),
        (
            "[%header,cols=3*]\n|===\n|Region |Town |Sales\n.2+|North |Leeds |1 |York a\\|b |2\n2+|Both 3+^.>s|x\n|===",
            ["head: Region | Town | Sales", "row: North | Leeds | 1", "row: North | York a|b | 2"],
        ),
        ("[cols=2]\n|===\n|x |y\n2.2+|All |a |b\n|===", ["row: x | y", "row: All", "row: All", "row: a | b"]),
        ("|===\nno cell\n|===\n\nText.", ["paragraph: Text."]),
        ('[%header]\n,===\nPart,Note\nBolt,"a, b"\n,===', ["head: Part | Note", "row: Bolt | a, b"]),
    ],
)
def test_tables_are_read_with_their_header_and_spans(table: str, expected: list[str]) -> None:
    """By the number of columns that they say, or that their first line has."""
    assert asciidoc(table)[: len(expected)] == expected


@pytest.mark.parametrize(
    ("marked", "said"),
    [
        ("See https://x.example/a[the manual] or link:a/b.html[form,window=_blank].", "See the manual or form."),
        ("See <<later,the rules>>, <<later>> and xref:b.adoc#c[page B].", "See the rules, later and page B."),
        ("See <<later,  the rules>> and <<later,  >>.", "See the rules and later."),
        (
            "Press kbd:[Ctrl+C], then menu:File[Save > All] image:a.png[a logo].",
            "Press Ctrl+C, then File › Save › All a logo.",
        ),
        ("**a**b __c__d #e# [.red]#f# C# snake_case_name 2 * 3 * 4", "ab cd e f C# snake_case_name 2 * 3 * 4"),
        ("H~2~O and 20 m^2^, pass:[*x*], +_y_+, `{days}` \\*z*", "H2O and 20 m2, *x*, _y_, {days} *z*"),
        ('"`Quoted`" ((term)) (((index, entry)))here', "“Quoted” term here"),
        ("a +\nb", "a\nb"),
    ],
)
def test_marks_inside_a_line_are_none_of_its_words(marked: str, said: str) -> None:
    """What looks like a mark and is none stays."""
    assert asciidoc(marked) == [f"paragraph: {said}"]


def test_a_footnote_comes_behind_its_paragraph_and_conditions_leave_their_text() -> None:
    """What is included is elsewhere."""
    text = (
        "Thirty days.footnote:[Or *less*.]\n\nifdef::web[]\nOn the web.\nendif::[]\n"
        "include::more.adoc[]\n\n<<<\nimage::a.png[A map, 200]\n"
    )
    assert asciidoc(text) == [
        *("paragraph: Thirty days.", "paragraph: Or less.", "paragraph: On the web.", "paragraph: A map"),
    ]


def test_it_is_known_by_its_name() -> None:
    """It looks like any other text."""
    assert detect_media_type(b"= Title\n", "a.adoc", None) == kinds.ASCIIDOC
