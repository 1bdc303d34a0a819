"""The operations page's side of the server, put together: history, peers, health, settings, who is slow."""

from collections.abc import Sequence

import aiohttp
from prometheus_client.metrics_core import Metric

from refdesk.answering.assistant import Assistant
from refdesk.app.health import Health
from refdesk.app.http import Measure, measured, own_metrics
from refdesk.app.services.common import Operations, required
from refdesk.operations.history import History, ProcessReading
from refdesk.operations.overview import Overview, PartView, SettingView, SlowView
from refdesk.operations.peers import Peers, parse_peers
from refdesk.operations.series import reading
from refdesk.outside.postgres.pool import Pool
from refdesk.settings.loading import origins_of
from refdesk.settings.redaction import shown
from refdesk.settings.tree import PREFIX, Settings, settings_by_name

UNNAMED = "service"


def open_operations(
    settings: Settings,
    health: Health,
    measures: Sequence[Measure],
    *,
    pool: Pool,
    session: aiohttp.ClientSession,
    assistant: Assistant,
) -> Operations:
    """Raises ConfigurationError when a peer is no address."""
    peers = Peers(
        parse_peers(settings.services.peer_urls), session=session, operator_key=required(settings, "operator_key")
    )

    async def read() -> list[ProcessReading]:
        await measured(measures)
        own = own_metrics()
        seen = [list(peer.families) for peer in await peers.metrics() if peer.families is not None]
        return [_reading(families) for families in (own, *seen)]

    async def parts() -> list[PartView]:
        name = _life(own_metrics())[0]
        verdicts = await health.verdicts()
        return [
            PartView(name=part, process=name, level=verdict.level, why=verdict.why)
            for part, verdict in verdicts.items()
        ]

    history = History(pool, read)
    overview = Overview(
        history=history,
        peers=peers,
        parts=parts,
        slow=lambda: slow(assistant),
        settings=lambda: settings_shown(settings),
        currency=settings.usage.llm_currency,
    )
    return Operations(endpoints=overview.endpoints(), background=[history.run], peers=peers)


def slow(assistant: Assistant) -> list[SlowView]:
    """The oldest first."""
    return [
        SlowView(
            principal_id=production.job.principal_id,
            state="writing" if production.begun else "waiting",
            seconds=round(production.age_s, 1),
        )
        for production in assistant.under_way()
    ]


def settings_shown(settings: Settings) -> list[SettingView]:
    origins = origins_of(settings)
    return [
        SettingView(PREFIX + name.upper(), shown(name, settings.value(name)), origins[name])
        for name in settings_by_name()
        if name != "setting_origins"
    ]


def _reading(families: Sequence[Metric]) -> ProcessReading:
    name, key = _life(families)
    return ProcessReading(name, key, reading(families))


def _life(families: Sequence[Metric]) -> tuple[str, str]:
    """What a process is, and which life of it this is: by whoever reads its metrics, the same."""
    samples = {sample.name: sample for family in families for sample in family.samples}
    name = samples["build_info"].labels.get("service", UNNAMED) if "build_info" in samples else UNNAMED
    started = samples["process_start_time_seconds"].value if "process_start_time_seconds" in samples else 0.0
    return name, f"{name}@{started:.2f}"
