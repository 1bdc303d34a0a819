"""What a stream must be like: made where it is missing, and judged field by field where it is there.

    fits      as the settings say, or stricter: more replicas, more room, a longer age
    asked     the settings ask for more: the stream is updated; what NATS refuses is said, and lived with
    differs   costs nobody an event: accepted, and said once
    wrong     it would drop or hide events that nobody has acknowledged: nothing is published until it is mended

So an operator may give more than the settings ask for, and the settings may ask for more than there is. Nothing is ever
taken away from a stream.
"""

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.contracts.events import SUBJECTS
from refdesk.outside.nats.connection import Connection, Refused, error_code
from refdesk.settings.servers import StreamSettings

logger = logging.getLogger(__name__)

STREAM_NOT_FOUND = 10059  # err_code, nats-server/server/errors.json

_NANOSECONDS = 1_000_000_000

Verdict = Literal["fits", "asked", "differs", "wrong"]


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream holds and may hold. A ``created_at`` or ``last_sequence`` that went back tells of a lost or older
    store; purging moves neither. A limit that is None does not exist.
    """

    created_at: datetime
    messages: int
    first_sequence: int
    last_sequence: int
    bytes: int
    bytes_max: int | None
    messages_max: int | None

    @property
    def fullness(self) -> float:
        """From 0 to 1, by the limit that is nearer; at 1 nothing more is taken."""
        parts = ((self.bytes, self.bytes_max), (self.messages, self.messages_max))
        return max((have / limit for have, limit in parts if limit), default=0.0)


class _State(msgspec.Struct):
    messages: int
    bytes: int
    first_seq: int
    last_seq: int


class StreamInfo(msgspec.Struct):
    """The server's description of a stream."""

    config: dict[str, Any]
    created: datetime
    state: _State

    def summary(self) -> StreamState:
        return StreamState(
            created_at=self.created,
            messages=self.state.messages,
            first_sequence=self.state.first_seq,
            last_sequence=self.state.last_seq,
            bytes=self.state.bytes,
            bytes_max=_limit(self.config, "max_bytes"),
            messages_max=_limit(self.config, "max_msgs"),
        )


class Judgement(msgspec.Struct, frozen=True):
    """One field of a stream that is not exactly as wanted."""

    stream: str
    field: str
    actual: Any
    wanted: Any
    verdict: Verdict

    @property
    def message(self) -> str:
        return f"Stream {self.stream} has {self.field}={self.actual!r} where {self.wanted!r} is wanted."

    @property
    def mend(self) -> str:
        """What to do about one that is wrong or was not granted."""
        if option := _OPTIONS.get(self.field):
            value = ",".join(self.wanted) if isinstance(self.wanted, list) else self.wanted
            return f"Run `nats stream edit {self.stream} {option.format(value)}`."
        return (
            f"NATS cannot change that. Run `nats stream rm {self.stream}`: it is made anew, and what is not indexed yet is "
            f"told again."
        )


_OPTIONS = {
    "subjects": "--subjects={}",
    "discard": "--discard={}",
    "max_msgs_per_subject": "--max-msgs-per-subject={}",
    "no_ack": "--ack",
    "num_replicas": "--replicas={}",
    "max_bytes": "--max-bytes={}",
    "max_age": "--max-age={}ns",
    "max_msg_size": "--max-msg-size={}",
    "duplicate_window": "--dupe-window={}ns",
}
"""How `nats stream edit` names what it can change."""

_UNLIMITED = {"max_bytes": -1, "max_age": 0, "max_msg_size": -1}
_AT_LEAST = (*_UNLIMITED, "num_replicas", "duplicate_window")
_MUST_BE = {
    "retention": "limits",  # interest drops what comes before its first reader; a work queue takes one reader only
    "discard": "new",  # old: drops what was not read
    "max_msgs_per_subject": -1,  # drops old messages of a subject whatever ``discard`` says
    "no_ack": False,  # a publisher would never hear that a message is stored
    "persist_mode": "default",  # async: acknowledged before it is stored
    "mirror": None,  # takes nothing from publishers
    "subject_transform": None,  # readers would not find their subjects
    "sealed": False,  # takes nothing at all
    "deny_purge": False,  # what all have read could not leave
}
_MAY_BE = {"max_msgs": -1, "max_consumers": -1, "sources": None}


class Streams:
    """Both streams on the server. Raises Unavailable when it cannot be reached or refuses to make one."""

    def __init__(self, connection: Connection, settings: StreamSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._said: set[str] = set()

    async def ensure(self) -> dict[str, StreamState]:
        """Make what is missing, bring about what the settings ask for; how they are now, by name.

        Raises ConfigurationError naming the first field that is wrong, and how to mend it.
        """
        return {name: await self._ensure(name) for name in SUBJECTS}

    async def info(self, name: str) -> StreamInfo:
        return await self._connection.api(f"STREAM.INFO.{name}", StreamInfo)

    def judge(self, name: str, info: StreamInfo) -> list[Judgement]:
        """Where this stream is not exactly what the settings say."""
        return list(_judge(name, info.config, stream_config(name, self._settings)))

    async def _ensure(self, name: str) -> StreamState:
        try:
            info = await self.info(name)
        except Unavailable as error:
            if error_code(error) != STREAM_NOT_FOUND:
                raise
            config = stream_config(name, self._settings)
            info = await self._connection.api(f"STREAM.CREATE.{name}", StreamInfo, config)
            logger.info("created stream %s", name)
        judgements = self.judge(name, info)
        for judgement in judgements:
            if judgement.verdict == "wrong":
                raise ConfigurationError(
                    f"{judgement.message} {judgement.mend}", field=judgement.field, actual=judgement.actual
                )
            if judgement.verdict == "differs":
                self._say(f"{judgement.message} That is accepted.", logging.INFO)
        if asked := [judgement for judgement in judgements if judgement.verdict == "asked"]:
            info = await self._update(name, info, asked)
        return info.summary()

    async def _update(self, name: str, info: StreamInfo, asked: list[Judgement]) -> StreamInfo:
        """The stream as it is afterwards. NATS does not move and scale a stream at once: what moves it comes last."""
        changes = {judgement.field: judgement.wanted for judgement in asked}
        if len(changes) > 1:
            changes.pop("placement", None)
        try:
            updated = await self._connection.api(f"STREAM.UPDATE.{name}", StreamInfo, {**info.config, **changes})
        except Unavailable as error:
            if not isinstance(error.__cause__, Refused):
                raise
            self._say(f"{asked[0].message} NATS refuses the change: {error.__cause__}.", logging.WARNING)
            return info
        logger.info("updated stream %s: %s", name, changes)
        return updated

    def _say(self, what: str, level: int) -> None:
        """Once: the streams are looked at every few seconds."""
        if what not in self._said:
            self._said.add(what)
            logger.log(level, what)


def stream_config(name: str, settings: StreamSettings) -> dict[str, Any]:
    """What a stream is made with."""
    config: dict[str, Any] = {
        "name": name,
        "subjects": [SUBJECTS[name]],
        "retention": "limits",
        "storage": settings.storage,
        "discard": "new",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_bytes": settings.bytes_max,
        "max_age": nanoseconds(settings.age_max_s),
        "max_msg_size": settings.message_bytes_max,
        "num_replicas": settings.replicas,
        "duplicate_window": nanoseconds(settings.duplicate_window_s),
    }
    tags = [tag.strip() for tag in (settings.tags or "").split(",") if tag.strip()]
    if settings.cluster is not None or tags:
        config["placement"] = {
            **({"cluster": settings.cluster} if settings.cluster is not None else {}),
            **({"tags": tags} if tags else {}),
        }
    return config


def nanoseconds(seconds: float) -> int:
    return round(seconds * _NANOSECONDS)


def _judge(stream: str, actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[Judgement]:
    def judged(field: str, want: Any, verdict: Verdict) -> Judgement:
        return Judgement(stream, field, actual.get(field), want, verdict)

    if not set(wanted["subjects"]) <= set(actual.get("subjects") or ()):
        yield judged("subjects", wanted["subjects"], "wrong")
    elif actual["subjects"] != wanted["subjects"]:
        yield judged("subjects", wanted["subjects"], "differs")
    for field, want in _MUST_BE.items():
        if (actual.get(field) or want) != want:
            yield judged(field, want, "wrong")
    for field, want in _MAY_BE.items():
        if (actual.get(field) or want) != want:
            yield judged(field, want, "differs")
    if actual["storage"] != wanted["storage"]:
        yield judged("storage", wanted["storage"], "wrong" if wanted["storage"] == "file" else "fits")
    for field in _AT_LEAST:
        if actual[field] != wanted[field]:
            yield judged(field, wanted[field], "fits" if _is_more(field, actual[field], wanted[field]) else "asked")
    if "placement" in wanted and (actual.get("placement") or {}) != wanted["placement"]:
        yield judged("placement", wanted["placement"], "asked")


def _is_more(field: str, actual: int, wanted: int) -> bool:
    return actual == _UNLIMITED.get(field) or (wanted != _UNLIMITED.get(field) and actual > wanted)


def _limit(config: Mapping[str, Any], field: str) -> int | None:
    """NATS writes "no limit" as -1, and some clients as 0."""
    value = config.get(field, -1)
    return value if value > 0 else None
