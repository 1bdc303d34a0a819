"""What comes in as text, in the two forms that everything behind the door can hold."""

from typing import Annotated

from msgspec import Meta

WITHOUT_NUL = r"^[^\x00]*$"

Text = Annotated[str, Meta(pattern=WITHOUT_NUL)]
"""Text without NUL, which PostgreSQL cannot hold. Half surrogate pairs are no Unicode: decoding refuses them."""

NUMBER_MAX = (1 << 63) - 1
"""The largest whole number that PostgreSQL, and most programs, can hold."""

Number = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]


def whole_number(text: str, *, most: int = NUMBER_MAX) -> int | None:
    """The number that these decimal digits write, up to ``most``; None for anything else, however long it is."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(most)):  # Python refuses to read thousands of digits, with an error
        return None
    number = int(digits)
    return number if number <= most else None
