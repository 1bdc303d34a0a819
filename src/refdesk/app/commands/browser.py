"""The page in the browser of whoever sits before this machine."""

import os
import sys
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress

DESKTOPS = ("DISPLAY", "WAYLAND_DISPLAY")


def open_page(
    url: str,
    *,
    environ: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
    opens: Callable[[str], object] = webbrowser.open,
) -> None:
    """Open it, unless nobody sits here: a service, a container, a session from elsewhere."""
    if not is_desktop(environ, platform=platform):
        return
    with suppress(webbrowser.Error, OSError):
        opens(url)


def is_desktop(environ: Mapping[str, str], *, platform: str) -> bool:
    """Whether somebody has started us from a terminal of this machine's own desktop."""
    if "SSH_CONNECTION" in environ or not sys.stdout.isatty():
        return False
    return platform in ("darwin", "win32") or any(environ.get(name) for name in DESKTOPS)
