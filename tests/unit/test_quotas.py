"""What one principal may upload, by a clock of the test's."""

from contextlib import ExitStack

import pytest

from refdesk.app.commands.client import RETRY_DELAYS_S, CallFailed, patiently
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import TooManyRequests
from refdesk.documents import quotas as module
from refdesk.documents.quotas import UploadQuotas
from refdesk.settings.documents import UploadLimits

ANN, BEN, ADMIN = Principal(id="ann"), Principal(id="ben"), Principal(id="root", role="administrator")
LIMITS = UploadLimits(at_once=3, per_minute=5, bytes_per_day=1000)
START = 1_800_000_000.0  # the first second of a minute, and not the last of a day


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quotas(clock: Clock) -> UploadQuotas:
    return UploadQuotas(LIMITS, clock=clock)


def upload(quotas: UploadQuotas, principal: Principal, *, times: int = 1, bytes_count: int = 1) -> None:
    for _ in range(times):
        with quotas.uploading(principal, bytes_count=bytes_count):
            pass


def test_uploads_a_minute_are_bounded_for_each(quotas: UploadQuotas, clock: Clock) -> None:
    """And free again a minute later; others are not touched."""
    upload(quotas, ANN, times=5)
    clock.now += 20
    with pytest.raises(TooManyRequests, match="REFDESK_UPLOADS_PER_MINUTE_MAX") as refused:
        upload(quotas, ANN)
    assert (refused.value.details, refused.value.retry_after_s) == ({"limit": 5, "actual": 5}, 40)
    upload(quotas, BEN)
    clock.now += 40
    upload(quotas, ANN)


def test_bytes_a_day_are_bounded_for_each(quotas: UploadQuotas, clock: Clock) -> None:
    """A smaller file may still fit."""
    upload(quotas, ANN, bytes_count=900)
    with pytest.raises(TooManyRequests, match="REFDESK_UPLOAD_BYTES_PER_DAY_MAX") as refused:
        upload(quotas, ANN, bytes_count=101)
    assert refused.value.details == {"limit": 1000, "actual": 900}
    upload(quotas, ANN, bytes_count=100)
    clock.now += 86400
    upload(quotas, ANN, bytes_count=1000)


def test_uploads_at_once_are_bounded_for_all(quotas: UploadQuotas) -> None:
    """A place is free again however an upload ends."""
    for principal in (ANN, ADMIN):
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(quotas.uploading(principal, bytes_count=1))
            with pytest.raises(TooManyRequests, match="REFDESK_CONCURRENT_UPLOADS_MAX"):
                upload(quotas, principal)
        with pytest.raises(OSError, match="broken"), quotas.uploading(principal, bytes_count=1):
            raise OSError("broken")
        upload(quotas, principal)


def test_a_mirror_of_an_administrators_goes_through(quotas: UploadQuotas) -> None:
    """Fifty thousand files, of any size."""
    upload(quotas, ADMIN, times=50_000, bytes_count=10**9)


def test_memory_is_bounded_however_many_upload(quotas: UploadQuotas, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those are forgotten who have uploaded nothing for longest; never one whose upload is under way."""
    monkeypatch.setattr(module, "PRINCIPALS_MAX", 100)
    with quotas.uploading(ANN, bytes_count=1):
        for number in range(1000):
            upload(quotas, Principal(id=str(number)))
        assert len(quotas._accounts) <= 101
        assert "ann" in quotas._accounts


async def test_the_command_line_waits_as_long_as_it_is_told_to() -> None:
    """And goes on: more often than it tries what does not say when; a quota of a day is not waited for."""
    waited: list[float] = []
    refusals = [CallFailed("later", passing=True, status=429, retry_after_s=30) for _ in range(3 * len(RETRY_DELAYS_S))]

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def operation() -> str:
        if refusals:
            raise refusals.pop()
        return "done"

    assert await patiently(operation, sleep=sleep) == "done"
    assert waited == [30] * (3 * len(RETRY_DELAYS_S))
    refusals = [CallFailed("tomorrow", passing=True, status=429, retry_after_s=80_000)]
    with pytest.raises(CallFailed, match="tomorrow"):
        await patiently(operation, sleep=sleep)


async def test_the_command_line_comes_back_to_a_busy_service_not_before_it_says() -> None:
    """503 is tried a few times and no more, however long the pauses that it asks for are."""
    waited: list[float] = []
    refusals = [CallFailed("busy", passing=True, status=503, retry_after_s=6) for _ in range(len(RETRY_DELAYS_S) + 1)]

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def operation() -> None:
        raise refusals.pop()

    with pytest.raises(CallFailed, match="busy"):
        await patiently(operation, sleep=sleep)
    assert (waited, refusals) == ([max(6, delay_s) for delay_s in RETRY_DELAYS_S], [])
