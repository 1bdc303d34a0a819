"""What Valkey does in one step: Lua scripts, each a file named by what it does."""

from importlib.resources import files


def lua(name: str) -> str:
    """The script of that name."""
    return (files("refdesk.answering.scripts") / f"{name}.lua").read_text(encoding="utf-8")
