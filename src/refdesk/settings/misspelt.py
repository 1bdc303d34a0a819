"""Names that look like settings and are none, with the setting whose name is nearest."""

import re
from collections.abc import Collection
from difflib import get_close_matches

_OF_KUBERNETES = re.compile(r"(\w+_)?(service_(host|port)(_\w+)?|port_\d+_(tcp|udp)(_\w+)?)")
"""What Kubernetes sets for a Service named refdesk, or refdesk-something, after the prefix of settings."""
SIMILAR_MIN = 0.7
"""Letters in common, as `difflib` counts them: a transposition or a missing word, not another name."""


def misspelt(given: Collection[str], known: Collection[str], *, prefix: str) -> list[str]:
    """One sentence for each of these variables that begins as a setting does and is none. ``known``: names without prefix."""
    names = (key.removeprefix(prefix).lower() for key in sorted(given) if key.startswith(prefix))
    wrong = (name for name in names if name not in known and not _OF_KUBERNETES.fullmatch(name))
    return [f"{prefix}{name.upper()} is not a setting.{nearest(name, known, prefix=prefix)}" for name in wrong]


def nearest(name: str, known: Collection[str], *, prefix: str = "") -> str:
    """A question that names it; empty where nothing is near."""
    near = get_close_matches(name, known, n=1, cutoff=SIMILAR_MIN)
    said = f"{prefix}{near[0].upper()}" if near and prefix else "".join(near)
    return f" Did you mean {said}?" if said else ""
