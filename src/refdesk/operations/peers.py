"""Other processes of the desk, named by setting, as their own doors tell of them: metrics and health."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Literal

import aiohttp
import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from refdesk.contracts.errors import ConfigurationError

logger = logging.getLogger(__name__)

PATIENCE_S = 1.5
METRICS_BYTES_MAX = 4 << 20
Level = Literal["ok", "degraded", "unavailable"]


class Health(msgspec.Struct, frozen=True):
    """As `/health/ready?verbose` tells it."""

    status: Level
    parts: dict[str, str] = {}
    degraded: list[str] = []
    unavailable: list[str] = []


class Peer(msgspec.Struct, frozen=True):
    name: str
    url: str


class Seen(msgspec.Struct, frozen=True):
    """A peer's metrics, none while it does not answer."""

    name: str
    families: tuple[Metric, ...] | None


def parse_peers(text: str | None) -> list[Peer]:
    """``NAME=URL``, several separated by commas. Raises ConfigurationError."""
    peers = []
    for entry in filter(None, (part.strip() for part in (text or "").split(","))):
        name, _, url = entry.partition("=")
        if not name.replace("-", "").isalnum() or not url.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"REFDESK_PEER_URLS has {entry!r}. Write a name and an address: indexer=http://indexer:8080, one after another."
            )
        peers.append(Peer(name, url.rstrip("/")))
    return peers


class Peers:
    """Whoever does not answer in time is told as such; nothing raises."""

    def __init__(self, peers: Sequence[Peer], *, session: aiohttp.ClientSession, operator_key: str) -> None:
        self._peers = tuple(peers)
        self._session = session
        self._headers = {"Authorization": f"Bearer {operator_key}"}

    async def metrics(self) -> list[Seen]:
        return list(await asyncio.gather(*(self._metrics(peer) for peer in self._peers)))

    async def health(self) -> dict[str, Health]:
        return dict(
            zip(
                (peer.name for peer in self._peers),
                await asyncio.gather(*(self._health(peer) for peer in self._peers)),
                strict=True,
            )
        )

    async def _metrics(self, peer: Peer) -> Seen:
        try:
            text = (await self._get(f"{peer.url}/metrics")).decode()
            return Seen(peer.name, tuple(text_string_to_metric_families(text)))
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, IndexError) as error:
            logger.debug("the metrics of %s cannot be read: %r", peer.name, error)
            return Seen(peer.name, None)

    async def _health(self, peer: Peer) -> Health:
        try:
            return msgspec.json.decode(await self._get(f"{peer.url}/health/ready?verbose"), type=Health)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            said = f"The {peer.name} does not answer ({type(error).__name__})."
            return Health("unavailable", {peer.name: said}, [], [peer.name])

    async def _get(self, url: str) -> bytes:
        async with asyncio.timeout(PATIENCE_S), self._session.get(url, headers=self._headers) as response:
            body = await response.content.read(METRICS_BYTES_MAX)
            while piece := await response.content.read(METRICS_BYTES_MAX - len(body)):
                body += piece
            return body


def beside(own: Iterable[Metric], peers: Sequence[Seen]) -> list[Metric]:
    """All of them as one exposition: what is another process's has a label ``process`` with its name."""
    together = {family.name: _copy(family) for family in own}
    up = Metric("refdesk_peer_up", "1: that process of the desk answers; 0: it does not", "gauge")
    for peer in peers:
        up.add_sample(up.name, {"process": peer.name}, 0.0 if peer.families is None else 1.0)
        for family in peer.families or ():
            target = together.setdefault(family.name, _copy(family, with_samples=False))
            for sample in family.samples:
                target.samples.append(sample._replace(labels={**sample.labels, "process": peer.name}))
    return [*together.values(), *([up] if peers else [])]


def _copy(family: Metric, *, with_samples: bool = True) -> Metric:
    copied = Metric(family.name, family.documentation, family.type)
    copied.samples = list(family.samples) if with_samples else []
    return copied
