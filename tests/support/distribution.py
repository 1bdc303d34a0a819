"""Which tests go to one worker together, and in which order, where several run the suite."""

from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("tests/browser", "tests/system")
"""Their tests share a desk that is expensive to start: one worker has all of them."""
FIRST = (*TOGETHER, "tests/chaos")
"""Whose files take longest. The rest follows as it is collected: the many short ones of tests/unit come last."""


class Distribution(LoadScopeScheduling):
    """A unit at a time."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def unit_of(nodeid: str) -> str:
    """What has to stay together: a file, or a folder whose tests share a desk."""
    return next((folder for folder in TOGETHER if nodeid.startswith(f"{folder}/")), nodeid.partition("::")[0])


def place_of(nodeid: str) -> int:
    """The lower, the earlier."""
    return next((place for place, folder in enumerate(FIRST) if nodeid.startswith(f"{folder}/")), len(FIRST))
