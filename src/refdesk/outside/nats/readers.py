"""Who reads a stream, as the server knows them: every consumer, whoever made it, and how far it has come."""

import msgspec

from refdesk.contracts.errors import Unavailable
from refdesk.contracts.events import SUBJECTS
from refdesk.outside.nats.connection import Connection, error_code

CONSUMER_NOT_FOUND = 10014  # err_code, nats-server/server/errors.json


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """One consumer of a stream. Everything up to ``acknowledged`` (a stream sequence) is done with.

    ``delivered`` is the highest stream sequence it was given; ``deliveries`` counts up with every delivery. ``left``
    messages were not delivered or not acknowledged yet. A reader that is not ``whole`` takes only some subjects: its
    ``acknowledged`` stands still while nothing comes for it.
    """

    name: str
    acknowledged: int
    delivered: int
    deliveries: int
    left: int
    whole: bool
    listening: bool
    """Somebody asks for its messages at this moment."""


async def find_reader(connection: Connection, stream: str, name: str) -> Reader | None:
    """The consumer of that name; None when there is none. Raises Unavailable."""
    try:
        return _reader(await connection.api(f"CONSUMER.INFO.{stream}.{name}", _Info), stream)
    except Unavailable as error:
        if error_code(error) != CONSUMER_NOT_FOUND:
            raise
        return None


async def list_readers(connection: Connection, stream: str) -> list[Reader]:
    """Raises Unavailable, also when some of them cannot be asked, as without a leader."""
    readers: list[Reader] = []
    while True:
        page = await connection.api(f"CONSUMER.LIST.{stream}", _Page, {"offset": len(readers)})
        if page.missing:
            raise Unavailable(
                f"NATS knows nothing of the consumers {', '.join(page.missing)} of {stream} at the moment."
            )
        readers += [_reader(info, stream) for info in page.consumers or ()]
        if not page.consumers or len(readers) >= page.total:
            return readers


def _reader(info: "_Info", stream: str) -> Reader:
    subjects = info.config.filter_subjects or [info.config.filter_subject or SUBJECTS[stream]]
    return Reader(
        name=info.name,
        acknowledged=info.ack_floor.stream_seq,
        delivered=info.delivered.stream_seq,
        deliveries=info.delivered.consumer_seq,
        left=info.num_pending + info.num_ack_pending,
        whole=bool({SUBJECTS[stream], ">"} & set(subjects)),
        listening=info.num_waiting > 0 or info.push_bound,
    )


class _Place(msgspec.Struct):
    consumer_seq: int
    stream_seq: int


class _Config(msgspec.Struct):
    filter_subject: str = ""
    filter_subjects: list[str] | None = None


class _Info(msgspec.Struct):
    name: str
    config: _Config
    delivered: _Place
    ack_floor: _Place
    num_ack_pending: int
    num_pending: int
    num_waiting: int = 0
    push_bound: bool = False


class _Page(msgspec.Struct):
    total: int
    consumers: list[_Info] | None = None
    missing: list[str] | None = None
