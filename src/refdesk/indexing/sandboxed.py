"""The inside of a parser process: fences itself in, then reads a document, parses it, answers, and waits for the next.

Started as ``python -m refdesk.indexing.sandboxed <parent's pid>`` in an empty directory of its own. Frames come on stdin
and go out on stdout; nothing is ever unpickled. The fences:

* memory: RLIMIT_AS is the address space at start plus what the resident memory may still grow;
* a process group of its own, so that Ctrl-C in a terminal reaches only its parent; not a session, which would have its own
  share of the processors (see `priority`);
* CPU, open files, size of written files, no core dumps, no new privileges; on Linux it dies with its parent, and where the
  kernel lets it, it has a network namespace of its own, which has no network in it.

Wall time is the parent's business: it kills.
"""

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from refdesk.contracts.errors import DocumentRejected
from refdesk.indexing.extraction import extract
from refdesk.indexing.frames import Reply, Request, frame, read_frame
from refdesk.indexing.parsed import ParsingLimits
from refdesk.indexing.priority import spare_processors
from refdesk.indexing.scans import recognise

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h


def main() -> None:
    os.setpgrp()
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not land between the frames
    limits = msgspec.json.decode(read_frame(requests) or b"{}", type=ParsingLimits)
    spare_processors(limits.processors_spared)
    _fence(limits)
    _send(replies, msgspec.json.encode(Reply(resident_bytes=_memory_bytes()[1])))
    while (header := read_frame(requests)) is not None:
        request = msgspec.json.decode(header, type=Request)
        content = read_frame(requests)
        if content is None:
            return
        _allow_cpu(_cpu_s(request, limits))
        _send(replies, _answer(request, content, limits))


def _send(replies: BinaryIO, payload: bytes) -> None:
    replies.write(frame(payload))
    replies.flush()


def _answer(request: Request, content: bytes, limits: ParsingLimits) -> bytes:
    try:
        reply = _read(request, content, limits)
        reply = msgspec.structs.replace(reply, resident_bytes=_memory_bytes()[1])
    except DocumentRejected as rejection:
        reply = Reply(rejection=rejection.message, details=rejection.details, resident_bytes=_memory_bytes()[1])
    except (MemoryError, RecursionError):
        reply = Reply(out_of_memory=True, resident_bytes=_memory_bytes()[1])
    return msgspec.json.encode(reply)


def _read(request: Request, content: bytes, limits: ParsingLimits) -> Reply:
    if request.recognise_page is not None and limits.recognition is not None:
        text = recognise(
            content,
            request.media_type,
            page=request.recognise_page,
            languages=limits.recognition.languages,
            name=request.filename or "the document",
        )
        return Reply(page_text=text[: limits.characters_max])
    return Reply(document=extract(content, request, limits=limits))


def _cpu_s(request: Request, limits: ParsingLimits) -> int:
    if request.recognise_page is not None and limits.recognition is not None:
        return max(1, round(limits.recognition.page_s))
    return limits.cpu_s


def _fence(limits: ParsingLimits) -> None:
    if sys.platform == "linux":
        _fence_linux()
    virtual_bytes, resident_bytes = _memory_bytes()
    if virtual_bytes:
        _limit(resource.RLIMIT_AS, virtual_bytes + max(0, limits.memory_bytes_max - resident_bytes))
    _limit(resource.RLIMIT_NOFILE, limits.open_files_max)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes_max)
    _limit(resource.RLIMIT_CORE, 0)


def _fence_linux() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):  # the parent went before the signal was ordered
        sys.exit(1)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)  # best effort: many containers forbid it


def _limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (ceiling, ceiling))


def _allow_cpu(seconds: int) -> None:
    """The limit counts from the start of the process, so every document moves it on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _memory_bytes() -> tuple[int, int]:
    """Address space and resident memory; (0, 0) where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0, 0
    return int(pages[0]) * resource.getpagesize(), int(pages[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
