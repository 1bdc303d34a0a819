"""The inside of a parser process: fences itself in, then reads a document, parses it, answers, and waits for the next.

Started as ``python -m refdesk.indexing.sandboxed <parent's pid>`` in an empty directory of its own. Frames come on stdin
and go out on stdout; nothing is ever unpickled. The fences:

* memory: RLIMIT_AS is the address space at start plus what the resident memory may still grow;
* a process group of its own, so that Ctrl-C in a terminal reaches only its parent; not a session, which would have its own
  share of the processors (see `priority`);
* CPU, open files, size of written files, no core dumps;
* on Linux, all that `fences` has: no privileges, no network, no files but its own; and it dies with its parent.

Wall time is the parent's business: it kills.
"""

import encodings
import os
import pkgutil
import resource
import sys
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

import msgspec

from refdesk.contracts.errors import DocumentRejected
from refdesk.indexing.attachments import Began
from refdesk.indexing.extraction import extract
from refdesk.indexing.fences import fence
from refdesk.indexing.frames import PageLook, Reply, Request, frame, read_frame
from refdesk.indexing.parsed import ParsingLimits
from refdesk.indexing.priority import spare_processors
from refdesk.indexing.readers.pdf_looks import draw_page, find_marks
from refdesk.indexing.scans import recognise


def main() -> None:
    os.setpgrp()
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not land between the frames
    limits = msgspec.json.decode(read_frame(requests) or b"{}", type=ParsingLimits)
    spare_processors(limits.processors_spared)
    unfenced = _fence(limits)
    _send(replies, msgspec.json.encode(Reply(unfenced=unfenced, resident_bytes=_memory_bytes()[1])))
    while (header := read_frame(requests)) is not None:
        request = msgspec.json.decode(header, type=Request)
        content = read_frame(requests)
        if content is None:
            return
        _allow_cpu(_cpu_s(request, limits))
        _send(replies, _answer(request, content, limits, began=partial(_tell, replies)))


def _load_encodings() -> None:
    """Any may be asked for by a document, and the user that we become may not be let to Python's own files."""
    for module in pkgutil.iter_modules(encodings.__path__):
        with suppress(ImportError):  # Windows's
            import_module(f"encodings.{module.name}")


def _send(replies: BinaryIO, payload: bytes) -> None:
    replies.write(frame(payload))
    replies.flush()


def _tell(replies: BinaryIO, attachment: int) -> None:
    _send(replies, msgspec.json.encode(Reply(attachment=attachment)))


def _answer(request: Request, content: bytes, limits: ParsingLimits, *, began: Began) -> bytes:
    try:
        reply = _read(request, content, limits, began=began)
        reply = msgspec.structs.replace(reply, resident_bytes=_memory_bytes()[1])
    except DocumentRejected as rejection:
        reply = Reply(rejection=rejection.message, details=rejection.details, resident_bytes=_memory_bytes()[1])
    except (MemoryError, RecursionError):
        reply = Reply(out_of_memory=True, resident_bytes=_memory_bytes()[1])
    return msgspec.json.encode(reply)


def _read(request: Request, content: bytes, limits: ParsingLimits, *, began: Began) -> Reply:
    if request.recognise_page is not None and limits.recognition is not None:
        text = recognise(
            content,
            request.media_type,
            page=request.recognise_page,
            languages=limits.recognition.languages,
            name=request.filename or "the document",
        )
        return Reply(page_text=text[: limits.characters_max])
    if request.look is not None:
        return _look(request.look, content, name=request.filename or "The document")
    return Reply(document=extract(content, request, limits=limits, began=began))


def _look(look: PageLook, content: bytes, *, name: str) -> Reply:
    if look.text is not None:
        return Reply(marks=find_marks(content, page=look.page, text=look.text, name=name))
    image = draw_page(content, page=look.page, width=look.width, pixels_max=look.pixels_max, name=name)
    return Reply(image=image)


def _cpu_s(request: Request, limits: ParsingLimits) -> int:
    if request.recognise_page is not None and limits.recognition is not None:
        return max(1, round(limits.recognition.page_s))
    return limits.cpu_s


def _fence(limits: ParsingLimits) -> tuple[str, ...]:
    """What could not be fenced, in words."""
    if os.geteuid() == 0:
        _load_encodings()
    readable = [Path(limits.recognition.data_dir)] if limits.recognition else []
    missing = fence(own=Path.cwd(), readable=readable, parent=int(sys.argv[1]))
    virtual_bytes, resident_bytes = _memory_bytes()
    if virtual_bytes:
        _limit(resource.RLIMIT_AS, virtual_bytes + max(0, limits.memory_bytes_max - resident_bytes))
    _limit(resource.RLIMIT_NOFILE, limits.open_files_max)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes_max)
    _limit(resource.RLIMIT_CORE, 0)
    return missing


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
