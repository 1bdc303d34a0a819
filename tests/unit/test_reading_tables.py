"""Delimited texts: columns, headers and titles are found."""

import pytest
from tests.support.growth import cpu_s
from tests.support.reading import lines, read

from refdesk.indexing.readers.tables import Grid, is_value
from refdesk.outside import media_types as kinds


def csv(source: str | bytes) -> list[str]:
    return lines(read(source, kinds.CSV))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "part;price, net;stock\nbolt;1,25;300\nnut;0,80;120\n",
            ["head: part | price, net | stock", "row: bolt | 1,25 | 300"],
        ),
        ("sep=|\na|b;c\n1|2;3\n", ["head: a | b;c", "row: 1 | 2;3"]),
        ("part\tprice\nbolt\t1.25\n", ["head: part | price", "row: bolt | 1.25"]),
        ("Month,2023,2024\nJanuary,10,12\n", ["head: Month | 2023 | 2024", "row: January | 10 | 12"]),
        ("1st name,,2nd name\nAda,x,Bob\n", ["head: 1st name | | 2nd name", "row: Ada | x | Bob"]),
        ("Stock list, hall 3\n\npart;price\nbolt;1,25\n", ["paragraph: Stock list, hall 3", "head: part | price"]),
        ("Stock list;;;\nMay;;;\npart;price;hall;row\nbolt;1,25;3;B\n", ["paragraph: Stock list", "paragraph: May"]),
        ('nr;text\n1;"two\nlines; and ""more"""\n', ["head: nr | text", 'row: 1 | two lines; and "more"']),
        ("7,8\n9,10\n", ["row: 7 | 8", "row: 9 | 10"]),
        ("a,b\n1,2\n\nc,d\n3,4\n", ["head: a | b", "row: 1 | 2", "head: c | d", "row: 3 | 4"]),
        ("a,b\nx,2\n\ny,z\n", ["head: a | b", "row: x | 2", "row: y | z"]),
        (
            "In millions,,,,May\n,Sales,Profit,Tax,Net\n\nNorth,4,1,2,3\n",
            ["paragraph: In millions | May", "head: | Sales | Profit | Tax | Net", "row: North | 4 | 1 | 2 | 3"],
        ),
        ("only one column\nof words\n", ["row: only one column", "row: of words"]),
    ],
)
def test_columns_are_found(source: str, expected: list[str]) -> None:
    """Decimal commas, commas in a header, title lines, Excel's `sep=` line, tables behind blank lines."""
    assert csv(source)[: len(expected)] == expected
    assert csv(("\ufeff" + source).encode("utf-16-le"))[: len(expected)] == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        *(
            (cell, True)
            for cell in ("1", "-1.250,75", "12 %", "€ 5", "3 kg", "2026-05-01", "1.5.2026", "08:30", "yes", "a@b.c")
        ),
        *((cell, False) for cell in ("Price", "Q1", "2nd quarter", "Room 12", "", "2026 budget", "B-12")),
    ],
)
def test_a_value_is_no_name(cell: str, expected: bool) -> None:
    """What a column may hold, and what it may be called."""
    assert is_value(cell) is expected


def test_a_cell_is_in_each_place_that_it_covers() -> None:
    """Spans of rows hang down beside, between and behind the cells of the rows below."""
    grid = Grid()
    for row in ([("a", 1, 2), ("b", 1, 1), ("c", 2, 3)], [("d", 1, 1)], [("e", 2, 1)]):
        grid.open_row()
        for text, columns, rows in row:
            grid.add(text, columns=columns, rows=rows)
    grid.close_row()
    assert grid.rows == [["a", "b", "c", "c"], ["a", "d", "c", "c"], ["e", "e", "c", "c"]]


def test_rows_below_a_table_that_is_full_cost_no_look_at_what_hangs_down() -> None:
    """Two hundred kilobytes of wide and long spans would otherwise keep a reader busy for minutes."""

    def fill(cell: str) -> None:
        grid = Grid()
        for _ in range(20_000):
            grid.open_row()
            grid.add(cell, columns=1_000, rows=65_534)
        assert len(grid.rows) == 20_000

    cpu_s(fill, "x")


def test_a_cell_of_a_wide_table_carries_the_name_of_its_column() -> None:
    """Where the header is too long to be repeated; every block begins with the first cell of its row."""
    names = ["Sample", *(f"Concentration of substance {number} in mg" for number in range(30))]
    rows = [[f"S{number}", *(f"{number}.{column}" for column in range(30))] for number in range(3)]
    found = csv("\n".join(",".join(row) for row in [names, *rows]))
    assert all(line.startswith("row: Sample: S") and len(line) < 600 for line in found)
    said = "\n".join(found)
    assert all(f"substance {column} in mg: {number}.{column}" in said for number in range(3) for column in range(30))


def test_a_table_that_would_swell_keeps_its_rows_as_they_are() -> None:
    """Naming every cell would make a large document of a small one."""
    names = [f"The name of column {number} is long" for number in range(100)]
    found = csv("\n".join([",".join(names), *["a" + ",1" * 99] * 1000]))
    assert found[0].startswith("head: The name of column 0")
    assert len(found) == 1001


def test_a_group_of_columns_and_their_names_are_one_header() -> None:
    """Also where a blank column sets groups apart, and only the first one has names for its rows."""
    found = csv(",2023,,,2024,\n,Sales,Profit,,Sales,Profit\nNorth,1.5,2.5,,3.5,4.5\nSouth,1.6,2.6,,3.6,4.6\n")
    assert found == [
        "head: | 2023 Sales | 2023 Profit | | 2024 Sales | 2024 Profit",
        "row: North | 1.5 | 2.5 | | 3.5 | 4.5",
        "row: South | 1.6 | 2.6 | | 3.6 | 4.6",
    ]
