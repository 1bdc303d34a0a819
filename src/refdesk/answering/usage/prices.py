"""What tokens cost, by setting: a price per million read and one per million written, for each model that has one.

Decimal throughout: the sums of a month are exact, and agree with whoever adds up the same numbers.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from refdesk.contracts.answers import Usage
from refdesk.contracts.errors import ConfigurationError

MILLION = 1_000_000
NOTHING = Decimal(0)
_PRICED = re.compile(r"([^\s,]+) +(\d{1,9}(?:\.\d{1,6})?)/(\d{1,9}(?:\.\d{1,6})?)")


class Price(msgspec.Struct, frozen=True):
    """Of a million tokens."""

    input: Decimal
    output: Decimal

    def of(self, usage: Usage) -> Decimal:
        return (self.input * usage.input_tokens + self.output * usage.output_tokens) / MILLION


class Prices:
    """``currency`` is only told, never converted."""

    def __init__(self, by_model: Mapping[str, Price] | None = None, *, currency: str = "USD") -> None:
        self._by_model = dict(by_model or {})
        self.currency = currency

    @classmethod
    def parse(cls, text: str | None, *, currency: str) -> "Prices":
        """``MODEL INPUT/OUTPUT``, several separated by commas. Raises ConfigurationError."""
        by_model = {}
        for entry in filter(None, (part.strip() for part in (text or "").split(","))):
            found = _PRICED.fullmatch(entry)
            if found is None:
                raise ConfigurationError(
                    f"REFDESK_LLM_PRICES has {entry!r}. Write the model's name, a space, and the prices of a million tokens "
                    "read and written: gpt-4o 2.50/10."
                )
            by_model[found[1]] = Price(Decimal(found[2]), Decimal(found[3]))
        return cls(by_model, currency=currency)

    def cost(self, model: str, usage: Usage) -> Decimal | None:
        """None where the model has no price."""
        price = self._by_model.get(model)
        return None if price is None else price.of(usage)

    def at_most(self, usage: Usage) -> Decimal:
        """What such an answer costs if the dearest model writes it; nothing where there are no prices."""
        return max((price.of(usage) for price in self._by_model.values()), default=NOTHING)
