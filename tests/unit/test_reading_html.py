"""HTML is read as its reader sees it."""

import pytest
from tests.support.reading import lines, read

from refdesk.outside import media_types as kinds


def html(source: str) -> list[str]:
    return lines(read(source, kinds.HTML))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "<table><tr><th>City<th>Team<tr><td rowspan=2>Bonn<td>Red<tr><td>Blue<tr><td>Kiel<td>Gold</table>",
            ["head: City | Team", "row: Bonn | Red", "row: Bonn | Blue", "row: Kiel | Gold"],
        ),
        (
            "<table><thead><tr><th rowspan=2>Region<th colspan=2>Sales<tr><th>2023<th>2024</thead>"
            "<tr><th>North<td>1<td>2<tr><td colspan=3>Without returns</table>",
            ["head: Region | Sales 2023 | Sales 2024", "row: North | 1 | 2", "row: Without returns"],
        ),
        (
            "<table><caption>Prices</caption><tr><td>Article<td>Price<tr><td>Bolt<td>1.25</table>",
            ["paragraph: Prices", "head: Article | Price", "row: Bolt | 1.25"],
        ),
        (
            "<table><tr><td><b>Name</b><td><strong>Town</strong><tr><td>Ada<td>Bonn</table>",
            ["head: Name | Town", "row: Ada | Bonn"],
        ),
        ("<table><tr><td>Name<td>Ada<tr><td>Town<td>Bonn</table>", ["row: Name | Ada", "row: Town | Bonn"]),
        ("<table><tr><td rowspan=0 colspan=0>a<td>b<tr><td>c</table>", ["row: a | b", "row: a | c"]),
    ],
)
def test_cells_stand_under_their_header_and_fill_what_they_span(source: str, expected: list[str]) -> None:
    """Header rows of `td`, several header rows, captions, and spans of rows and columns."""
    assert html(source) == expected


def test_a_span_beyond_all_bounds_does_not_fill_the_memory() -> None:
    """A cell may claim a thousand columns and 65,534 rows; the table holds 200,000 spanned cells at most."""
    rows = "<tr><td colspan=1000 rowspan=65534>x<td>y" * 2_000
    assert len(read(f"<table>{rows}</table>", kinds.HTML).text) < 5_000_000


@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>secret</p>",
        "<p hidden>secret",
        '<div style="color: red; DISPLAY : none"><p>secret</p><div>secret</div></div>',
        '<span style="visibility:hidden">secret</span>',
        '<i aria-hidden="true">secret</i>',
        "<dialog><p>secret</p></dialog>",
        "<nav><ul><li><a>secret</a></ul></nav>",
        '<div role="navigation">secret</div>',
        '<div class="box cookie-banner"><p>secret <button>Accept</button></div>',
        '<section id="CookieConsent">secret</section>',
        "<svg><title>secret</title></svg>",
        "<ul><li hidden>secret<li>kept</ul>",
        "<table><tr hidden><td>secret<tr><td>kept</table>",
    ],
)
def test_what_a_page_hides_is_no_text(hidden: str) -> None:
    """Neither hidden elements nor navigation nor cookie notices; what follows them is read."""
    text = read(f"<body>before {hidden}<p>after</body>", kinds.HTML).text
    assert "secret" not in text
    assert ("before" in text, "after" in text, "kept" in text) == (True, True, "kept" in hidden)


@pytest.mark.parametrize(
    "shown",
    [
        '<div class="cookie-policy">seen</div>',
        '<div hidden="until-found">seen</div>',
        "<dialog open>seen</dialog>",
        '<p style="display:none-such">seen</p>',
        '<p aria-hidden="false">seen</p>',
        "<details>seen</details>",
        "<div hidden>never closed <p>seen",
    ],
)
def test_what_a_page_shows_is_text(shown: str) -> None:
    """A page about cookies is not a notice; what is hidden by a mistake is rather read than lost."""
    assert "seen" in read(f"<body><p>before</p>{shown}", kinds.HTML).text


def test_the_pages_own_part_is_preferred() -> None:
    """`main`, an element of that role, else `article`; without much in it the whole page is read."""
    story = "<h1>Leave</h1><p>" + "Everybody has thirty days of leave. " * 10
    around = "<header>Site</header>{}<footer>Imprint</footer>"
    for part in ("<main>{}</main>", '<div role="main"><div>{}</div></div>', "<article>{}</article>"):
        assert [line[:7] for line in html(around.format(part.format(story)))] == ["heading", "paragra"]
    assert html(around.format("<main></main><p>Words of the page.")) == [
        *("paragraph: Site", "paragraph: Words of the page.", "paragraph: Imprint")
    ]


def test_lists_keep_the_numbers_that_are_shown() -> None:
    """A list may begin anywhere, and an item may say its number."""
    assert html("<ol start=3><li>three<li value=7>seven<li>eight</ol>") == [
        "item: 3. three",
        "item: 7. seven",
        "item: 8. eight",
    ]
