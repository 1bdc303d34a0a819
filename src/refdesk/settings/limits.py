"""Lines, and what one principal may use."""

from typing import Annotated

import msgspec
from msgspec import Meta

from refdesk.settings.kinds import Count, Seconds, Whole


class Searches(msgspec.Struct, frozen=True, kw_only=True):
    """Lines before the search."""

    concurrent_retrievals_max: Count = 8
    """Searches one process does at a time, each on a connection of its own to the index."""
    waiting_retrievals_max: Whole = 256
    """Searches that may wait for their turn, per process; equal questions wait for one. In a full line there is still room for an
    equal share of each principal."""
    retrieval_wait_s_max: Seconds = 10.0
    """How long they may wait."""


class AdmissionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Lines before the model."""

    concurrent_max: Count = msgspec.field(default=16, name="concurrent_answers_max")
    """Answers one process lets the model write at a time."""
    kept_free: Whole = msgspec.field(default=2, name="answers_kept_free")
    """Of these, the last are kept for principals who have no answer under way; a quarter at most."""
    waiting_max: Whole = 16
    """Questions in line for the model, per process. In a full line there is still room for an equal share of each principal."""
    waiting_per_principal_max: Whole = 16
    """Questions of one principal in line."""
    waiting_principals_max: Count = 500
    """Principals who may wait at a time, per process: for the model, and for a search."""


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """Budgets and caps."""

    concurrent_per_principal_max: Count = 64
    """Answers one principal may have under way."""
    requests_per_minute_max: Count = 3000
    """Questions one principal may ask in a minute."""
    searches_per_minute_max: Count = 3000
    """Searches and documents as they were indexed that one principal may ask for in a minute."""
    tokens_per_minute_max: Count = 2_000_000
    """Tokens, in and out, one principal may use in a minute."""
    tokens_per_day_max: Count = 100_000_000
    """Tokens, in and out, one principal may use in a day (UTC)."""
    tokens_per_month_max: Count | None = None
    """The same in a calendar month (UTC). Unset: no cap."""
    cost_per_day_max: Annotated[float, Meta(gt=0)] | None = None
    """What one principal's answers may cost in a day (UTC), by `llm_prices`. Unset: no cap."""
    cost_per_month_max: Annotated[float, Meta(gt=0)] | None = None
    """The same in a calendar month (UTC)."""
    usage_caps: str | None = None
    """Caps of groups, each shared by all in it, and of single principals, separated by commas:
    `sales tokens_per_day=1000000 cost_per_month=200, principal:7f3a tokens_per_month=5000000`."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Usage and its cost."""

    llm_prices: str | None = None
    """What a million tokens of a model cost, read and written, separated by commas: `gpt-4o 2.50/10, small 0.15/0.60`."""
    llm_currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "USD"
    """The currency of those prices."""
    usage_interval_s: Annotated[float, Meta(gt=0)] = 10.0
    """How often what answers have used is booked."""
    usage_days_kept: Count = 400
    """How long the sums of a day's usage are kept."""
