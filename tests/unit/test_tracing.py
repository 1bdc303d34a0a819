"""Traces that come from outside and go on through events."""

import pytest

from refdesk.outside import tracing

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "header",
    [None, "", "junk", TRACE.upper(), TRACE + "-x", TRACE.replace("00-0af", "ff-0af"), "00-" + "0" * 32 + TRACE[35:]],
)
def test_only_a_well_formed_traceparent_travels(header: str | None) -> None:
    """W3C Trace Context; anything else is dropped, not refused. Nothing needs to be recorded for it to travel."""
    with tracing.continued(header):
        assert tracing.current_traceparent() is None
    with tracing.continued(TRACE):
        assert tracing.current_traceparent() == TRACE
        with tracing.span(tracing.CHANGE_DOCUMENT):
            travelling = tracing.current_traceparent()
    assert travelling is not None
    assert travelling.split("-")[1] == TRACE.split("-")[1]
