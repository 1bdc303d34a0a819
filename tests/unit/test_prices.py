"""What tokens cost, and caps, as the settings write them."""

from decimal import Decimal

import pytest

from refdesk.answering.usage.caps import Cap, Caps, Spender, counted, parse_caps, window
from refdesk.answering.usage.prices import Prices
from refdesk.contracts.answers import Usage
from refdesk.contracts.errors import ConfigurationError

DAY = 86400


def test_prices_are_of_a_million_tokens() -> None:
    """Exactly, in decimals; a model without a price has no cost."""
    prices = Prices.parse("gpt-4o 2.50/10, org/small:7b 0.15/0.60", currency="EUR")
    assert prices.cost("gpt-4o", Usage(1_000_000, 1)) == Decimal("2.50001")
    assert prices.cost("org/small:7b", Usage(3, 7)) == Decimal("0.00000465")
    assert prices.cost("another", Usage(1, 1)) is None
    assert prices.at_most(Usage(100, 10)) == Decimal("0.00035")
    assert Prices.parse(None, currency="EUR").at_most(Usage(1, 1)) == 0


@pytest.mark.parametrize(
    "text", ["gpt-4o", "gpt-4o 2.50", "gpt-4o -1/2", "gpt-4o 1/2/3", "a b 1/2", "m 1e9/2", "m 1/2 x"]
)
def test_a_price_that_cannot_be_read_is_refused_by_name(text: str) -> None:
    """With the setting, and how to write it."""
    with pytest.raises(ConfigurationError, match="REFDESK_LLM_PRICES"):
        Prices.parse(text, currency="USD")


@pytest.mark.parametrize("text", ["sales", "sales tokens=1", "sa les=1", "sales cost_per_year=1", "* cost_per_day=1"])
def test_a_cap_that_cannot_be_read_is_refused_by_name(text: str) -> None:
    """With the setting, and how to write it."""
    with pytest.raises(ConfigurationError, match="REFDESK_USAGE_CAPS"):
        parse_caps(text)


def test_a_principals_own_cap_takes_the_place_of_what_each_has() -> None:
    """And a group's stands beside it."""
    each = Cap("tokens", "day", Decimal(100), "REFDESK_TOKENS_PER_DAY_MAX")
    caps = Caps([each], parse_caps("principal:ann tokens_per_day=5, sales cost_per_month=2.5 tokens_per_day=7"))
    own, sales = caps.subjects(Spender("ann", ("hr", "sales")))
    assert [(cap.name, cap.counted_limit) for cap in own.caps] == [("tokens_per_day", 5)]
    assert (own.group, sales.group) == (None, "sales")
    assert [(cap.name, cap.counted_limit) for cap in sales.caps] == [
        ("cost_per_month", 2_500_000_000),
        ("tokens_per_day", 7),
    ]
    assert caps.subjects(Spender("ben"))[0].caps == (each,)


def test_a_cost_is_counted_in_billionths_and_never_as_less() -> None:
    """Rounded up."""
    assert [counted(Decimal(text)) for text in ("0", "0.0000000001", "1", "0.25")] == [0, 1, 10**9, 250_000_000]


@pytest.mark.parametrize(
    ("at", "day", "month"),
    [
        (0, ("d0", DAY), ("M197001", 31 * DAY)),
        (1_709_164_799, ("d19781", 1), ("M202402", DAY + 1)),
        (1_735_689_599, ("d20088", 1), ("M202412", 1)),
    ],
    ids=["the beginning", "a leap year", "the end of a year"],
)
def test_a_window_ends_with_its_day_or_month(at: float, day: tuple[str, int], month: tuple[str, int]) -> None:
    """In UTC."""
    assert (window("day", at), window("month", at)) == (day, month)
