"""What `refdesk doctor` checks. A check is an async function of the settings that yields findings, one line each.

Checks start, write and change nothing, and none may hang: each has a few seconds, and a model the time to be loaded. There is a
module for each part.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

from refdesk.app.commands.checks import broker, databases, machine, models, provider, qdrant, running, streams, valkey
from refdesk.app.commands.checks.findings import Check, Finding
from refdesk.settings.loading import Loaded

CHECK_TIMEOUT_S = 10.0

CHECKS: Mapping[str, Check] = {
    "Python": machine.check_python,
    "settings": machine.check_names,
    "programs": machine.check_programs,
    "embedding model": machine.check_weights,
    "reading documents": machine.check_fences,
    "text recognition": machine.check_text_recognition,
    "data directory": machine.check_data_directory,
    "port": machine.check_port,
    "databases": databases.check_databases,
    "NATS": broker.check_nats,
    "NATS on disk": broker.check_nats_on_disk,
    "streams": streams.check_streams,
    "Valkey": valkey.check_valkey,
    "Qdrant": qdrant.check_qdrant,
    "identity provider": provider.check_provider,
    "Document Service": running.check_documents_url,
    "language model": models.check_language_model,
    "tokenizer": models.check_tokenizer,
    "embeddings": models.check_embeddings,
    "reranker": models.check_reranker,
    "running Refdesk": running.check_running,
}


async def examine(loaded: Loaded, *, on_finding: Callable[[Finding], Any] | None = None) -> list[Finding]:
    """Every check's findings, in their order; the checks run side by side."""
    running = [asyncio.create_task(_findings_of(name, check, loaded)) for name, check in CHECKS.items()]
    findings: list[Finding] = []
    for task in running:
        for finding in await task:
            findings.append(finding)
            if on_finding is not None:
                on_finding(finding)
    return findings


def _patience_s(name: str, loaded: Loaded) -> float:
    """A model may have to be loaded before it answers."""
    cold_s = loaded.settings.clocks.cold_first_token_s if name == "language model" else 0.0
    return CHECK_TIMEOUT_S + cold_s


async def _findings_of(name: str, check: Check, loaded: Loaded) -> list[Finding]:
    found: list[Finding] = []
    try:
        async with asyncio.timeout(_patience_s(name, loaded)), aclosing(check(loaded)) as findings:
            async for finding in findings:
                found.append(finding)  # noqa: PERF401  what was found before a timeout counts
    except TimeoutError:
        found.append(
            Finding(
                "FAIL", name, f"no answer within {_patience_s(name, loaded):g} s", "Check the network and the server."
            )
        )
    return found
