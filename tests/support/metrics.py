"""Reading a process's ``/metrics``."""

from collections import Counter
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.desk import AnswerDesk, Process

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scraped(process: Process, desk: AnswerDesk) -> Samples:
    async with desk.session.get(f"{process.url}/metrics") as response:
        text = await response.text()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(samples: Samples, name: str, *labels: str) -> dict[Any, float]:
    """The values of a metric by those labels (by one label: its bare value), zeros left out."""
    found: Counter[Any] = Counter()
    for (sample, pairs), value in samples.items():
        if sample == name:
            key = tuple(dict(pairs)[label] for label in labels)
            found[key[0] if len(key) == 1 else key] += value
    return {key: value for key, value in found.items() if value}


async def total(process: Process, desk: AnswerDesk, name: str) -> float:
    """A metric's value over all its labels."""
    return sum(of(await scraped(process, desk), name).values())


async def follow(process: Process, desk: AnswerDesk, count: int) -> bool:
    """Whether so many askers of this process follow an answer that somebody else's question has begun."""
    return await total(process, desk, "refdesk_singleflight_waiters") == count
