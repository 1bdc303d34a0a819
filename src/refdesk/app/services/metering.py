"""What answers use and may use, put together from the settings: prices, caps, the budget and its record."""

from decimal import Decimal

import msgspec

from refdesk.answering.usage.bookings import BookingTimes
from refdesk.answering.usage.budget import Budget, BudgetLimits
from refdesk.answering.usage.caps import Cap, Period, Unit, parse_caps
from refdesk.answering.usage.prices import Prices
from refdesk.answering.usage.routes import UsageRoutes
from refdesk.answering.usage.settled import UsageStore
from refdesk.outside.postgres.pool import Pool
from refdesk.outside.valkey.client import Valkey
from refdesk.settings.tree import PREFIX, Settings


class Metering(msgspec.Struct, frozen=True, kw_only=True):
    budget: Budget
    usage: UsageStore
    prices: Prices
    times: BookingTimes

    def routes(self) -> UsageRoutes:
        return UsageRoutes(self.usage, budget=self.budget, prices=self.prices)


def open_metering(settings: Settings, pool: Pool, valkey: Valkey) -> Metering:
    """Raises ConfigurationError for prices or caps that cannot be read."""
    usage = UsageStore(pool)
    return Metering(
        budget=Budget(valkey, _limits(settings), booked=usage.booked),
        usage=usage,
        prices=Prices.parse(settings.usage.llm_prices, currency=settings.usage.llm_currency),
        times=BookingTimes(
            interval_s=settings.usage.usage_interval_s,
            answers_kept_s=settings.keeping.answer_retention_s,
            days_kept=settings.usage.usage_days_kept,
        ),
    )


def _limits(settings: Settings) -> BudgetLimits:
    return BudgetLimits(
        concurrent=settings.budgets.concurrent_per_principal_max,
        requests_per_minute=settings.budgets.requests_per_minute_max,
        searches_per_minute=settings.budgets.searches_per_minute_max,
        tokens_per_minute=settings.budgets.tokens_per_minute_max,
        tokens_per_day=settings.budgets.tokens_per_day_max,
        more=tuple(
            cap
            for cap in (
                _cap("tokens", "month", settings.budgets.tokens_per_month_max),
                _cap("cost", "day", settings.budgets.cost_per_day_max),
                _cap("cost", "month", settings.budgets.cost_per_month_max),
            )
            if cap is not None
        ),
        named=parse_caps(settings.budgets.usage_caps),
    )


def _cap(unit: Unit, period: Period, limit: float | None) -> Cap | None:
    setting = f"{PREFIX}{unit}_per_{period}_max".upper()
    return None if limit is None else Cap(unit, period, Decimal(str(limit)), setting)
