"""Invitations and calendars (RFC 5545): what, when, where and with whom."""

import re

from refdesk.indexing.parsed import Sink

_FOLD = re.compile(r"\r?\n[ \t]")
_LINE = re.compile(r'([A-Za-z-]++)((?:;[^:;"]*+(?:"[^"]*+"[^:;"]*+)*+)*+):(.*)')
_MOMENT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(?:\d\d)?(Z)?)?")
_ESCAPE = re.compile(r"\\([nN,;\\])")
_ENTRIES = frozenset({"VEVENT", "VTODO", "VJOURNAL"})  # what is nested in one is an alarm
_CALLED = {"VTODO": "Task", "VJOURNAL": "Entry"}
_SHOWN = {
    "SUMMARY": "Event",
    "DTSTART": "Start",
    "DTEND": "End",
    "DUE": "Due",
    "LOCATION": "Location",
    "ORGANIZER": "Organizer",
    "ATTENDEE": "Attendee",
    "STATUS": "Status",
    "RRULE": "Repeats",
    "DESCRIPTION": "Description",
}


def read_calendar(text: str, sink: Sink) -> None:
    """Writes each event, task and journal entry as a paragraph of its fields."""
    lines: list[str] = []
    open_parts: list[str] = []
    for match in map(_LINE.match, _FOLD.sub("", text).splitlines()):
        if match is None:
            continue
        name, parameters, value = match[1].upper(), match[2], match[3]
        if name == "BEGIN":
            open_parts.append(value.strip().upper())
        elif name == "END" and open_parts:
            if open_parts.pop() in _ENTRIES:
                sink.add("paragraph", "\n".join(lines))
                lines = []
        elif open_parts and open_parts[-1] in _ENTRIES and name in _SHOWN and value.strip():
            label = _CALLED.get(open_parts[-1]) if name == "SUMMARY" else None
            lines.append(f"{label or _SHOWN[name]}: {_value(name, parameters, value)}")


def _value(name: str, parameters: str, value: str) -> str:
    if name in {"DTSTART", "DTEND", "DUE"}:
        zone = re.search(r";TZID=\"?([^;:\"]+)", parameters, re.I)
        return f"{_moment(value)} {zone[1]}" if zone else _moment(value)
    if name in {"ORGANIZER", "ATTENDEE"}:
        address = value.removeprefix("mailto:").removeprefix("MAILTO:")
        person = re.search(r";CN=(?:\"([^\"]*)\"|([^;:]*))", parameters, re.I)
        return f"{person[1] or person[2]} <{address}>" if person else address
    return _ESCAPE.sub(lambda match: "\n" if match[1] in "nN" else match[1], value)


def _moment(value: str) -> str:
    """``20260501T100000Z`` as people write it. `strptime` would load a module, which a fenced process may not."""
    match = _MOMENT.fullmatch(value.strip())
    if match is None:
        return value
    day = "-".join(match.group(1, 2, 3))
    return f"{day} {match[4]}:{match[5]}{' UTC' if match[6] else ''}" if match[4] else day
