"""The streams of NATS: whether they are as they should be, how full they are, and who holds messages there."""

from refdesk.app.commands.checks.findings import CONNECT_TIMEOUT_S, Finding, Findings
from refdesk.contracts.errors import Unavailable
from refdesk.contracts.events import READERS, SUBJECTS
from refdesk.outside.nats.broker import Broker
from refdesk.outside.nats.connection import error_code
from refdesk.outside.nats.purging import NEARLY_FULL
from refdesk.outside.nats.readers import Reader
from refdesk.outside.nats.streams import STREAM_NOT_FOUND
from refdesk.settings.loading import Loaded


async def check_streams(loaded: Loaded) -> Findings:
    url = loaded.settings.nats.url
    if url is None:
        return
    streams = loaded.settings.streams
    async with Broker.connect(url, name="doctor", streams=streams, wait_s=CONNECT_TIMEOUT_S) as broker:
        if not broker.connected:  # `broker.check_nats` says so
            return
        for stream in SUBJECTS:
            try:
                yield await _stream_finding(broker, stream)
            except Unavailable as error:
                if error_code(error) == STREAM_NOT_FOUND:
                    yield Finding("ok", f"stream {stream}", "is not there yet; the Document Service makes it")
                else:
                    yield Finding(
                        "FAIL", f"stream {stream}", error.message, "See to the NATS cluster; it may lack a quorum."
                    )


async def _stream_finding(broker: Broker, stream: str) -> Finding:
    """The worst that can be said of it, and how it is."""
    name = f"stream {stream}"
    state, judgements = await broker.examine_stream(stream)
    readers = {reader.name: reader for reader in await broker.readers(stream)}
    used = f"{state.fullness:.0%} full, {state.messages:,} messages"
    by_verdict = {judgement.verdict: judgement for judgement in reversed(judgements)}
    if wrong := by_verdict.get("wrong"):
        return Finding("FAIL", name, wrong.message, wrong.mend)
    if state.fullness >= NEARLY_FULL:
        mend = "Start its readers, or raise REFDESK_STREAM_BYTES_MAX; changes wait in the outbox meanwhile."
        return Finding("warn", name, f"{used}, {_held_by(stream, readers)}", mend)
    if asked := by_verdict.get("asked"):
        return Finding("warn", name, f"{used}. {asked.message}", f"Refdesk asks NATS for it; or: {asked.mend}")
    if absent := [r for r in readers.values() if r.left and not r.listening and r.name not in READERS[stream]]:
        what = ", ".join(f"{reader.left:,} messages wait for the consumer {reader.name}" for reader in absent)
        mend = f"Delete it if nobody will come: `nats consumer rm {stream} {absent[0].name}`."
        return Finding("warn", name, f"{used}; {what}, and nobody asks for them", mend)
    differs = " ".join(judgement.message for judgement in judgements if judgement.verdict == "differs")
    return Finding("ok", name, f"{used}. {differs}" if differs else used)


def _held_by(stream: str, readers: dict[str, Reader]) -> str:
    """Why messages do not leave it: a reader that it is there for has never come, or one is behind."""
    if absent := [name for name in READERS[stream] if name not in readers]:
        return f"and the consumer {absent[0]} has never come to read them"
    behind = max(readers.values(), key=lambda reader: reader.left)
    return f"{behind.left:,} of them for the consumer {behind.name}"
