"""The settings of what is told and kept about the desk's work: logs, usage and its caps, gaps."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from refdesk.app.settings.kinds import Count, Whole


class Accounts(msgspec.Struct, frozen=True, kw_only=True):
    """A part of `Settings`."""

    # logs and other processes
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What a service logs. `debug` has every request; `info` those that failed or took longer than a second."""
    log_form: Literal["auto", "text", "json"] = "auto"
    """How: `text` for people, `json` for programs; `auto` is text on a terminal, JSON elsewhere."""
    log_file_bytes_max: Count = 8 * 1024 * 1024
    """How large a log in `<data_dir>/logs` grows under `refdesk up` before it is put aside as `<name>.log.1`."""
    log_files_kept: Whole = 3
    """How many of those are kept of each server and service, the oldest as `<name>.log.3`. 0: none."""
    peer_urls: str | None = None
    """Other processes of this desk, whose metrics and health an assistant tells, too, separated by commas:
    `indexer=http://indexer:8080, documents=http://documents:8080`. `refdesk up` names its indexer."""
    setting_origins: str | None = None
    """Where the settings come from that were handed on to a service; `refdesk up` says so, for the operations page."""

    # usage, cost and caps
    llm_prices: str | None = None
    """What a million tokens of a model cost, read and written, separated by commas: `gpt-4o 2.50/10, small 0.15/0.60`."""
    llm_currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "USD"
    """The currency of those prices."""
    usage_interval_s: Annotated[float, Meta(gt=0)] = 10.0
    """How often what answers have used is booked."""
    usage_days_kept: Count = 400
    """How long the sums of a day's usage are kept."""
    tokens_per_month_max: Count | None = None
    """The same in a calendar month (UTC). Unset: no cap."""
    cost_per_day_max: Annotated[float, Meta(gt=0)] | None = None
    """What one principal's answers may cost in a day (UTC), by `llm_prices`. Unset: no cap."""
    cost_per_month_max: Annotated[float, Meta(gt=0)] | None = None
    """The same in a calendar month (UTC)."""
    usage_caps: str | None = None
    """Caps of groups, each shared by all in it, and of single principals, separated by commas:
    `sales tokens_per_day=1000000 cost_per_month=200, principal:7f3a tokens_per_month=5000000`."""

    # gaps: questions that the documents do not answer
    gaps_kept: bool = True
    """Whether questions without an answer, or with a bad one, are kept for curators and put together into gaps."""
    gap_days_kept: Count = 90
    """How long."""
    gaps_max: Count = 1000
    """Gaps that are kept; those that nobody has asked for the longest time go."""
    gap_similarity_min: Annotated[float, Meta(ge=0, le=1)] = 0.7
    """How alike (cosine) a question is to those of a gap that it joins."""
    gap_interval_s: Annotated[float, Meta(gt=0)] = 30.0
    """How often questions are put into gaps, and new documents are asked whether they fill any."""

    feedback_days_kept: Count = 400
    """How long ratings are kept, with their questions."""
