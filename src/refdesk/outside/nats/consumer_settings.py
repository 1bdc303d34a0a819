"""How a consumer is to be, and where the one that there is differs."""

from collections.abc import Mapping
from typing import Any

import msgspec

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.nats.streams import nanoseconds


class ConsumerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A durable pull consumer with explicit acknowledgement. ``deliveries_max`` -1: the caller bounds attempts."""

    stream: str
    durable: str
    filter_subjects: tuple[str, ...]
    ack_wait_s: float = 30.0
    ack_pending_max: int = 256
    deliveries_max: int = -1
    backoff_s: tuple[float, ...] = ()
    replicas: int = 0
    """0: as many as the stream has."""

    @property
    def lease_s(self) -> float:
        """How long the server waits for a sign of life before it delivers a message again."""
        return self.backoff_s[0] if self.backoff_s else self.ack_wait_s


def consumer_config(settings: ConsumerSettings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "durable_name": settings.durable,
        "name": settings.durable,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "replay_policy": "instant",
        "ack_wait": nanoseconds(settings.lease_s),
        "max_ack_pending": settings.ack_pending_max,
        "max_deliver": settings.deliveries_max,
        "filter_subjects": list(settings.filter_subjects),
    }
    if settings.replicas:
        config["num_replicas"] = settings.replicas
    if settings.backoff_s:
        config["backoff"] = [nanoseconds(pause) for pause in settings.backoff_s]
    return config


def drift(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first field in which ``actual`` differs, or None."""
    return next((field for field, value in wanted.items() if actual.get(field) != value), None)


def verify(owner: str, field: str, actual: Any, wanted: Any) -> None:
    if actual != wanted:
        raise ConfigurationError(
            f"{owner} has {field}={actual!r} where {wanted!r} is wanted. Change one of them "
            f"(`nats consumer edit`, or Refdesk's settings).",
            field=field,
            actual=actual,
        )
