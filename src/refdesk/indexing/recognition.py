"""Text recognition (OCR) is there where tesseract's language data is; finding that data switches it on.

Only the data is looked for: the recogniser itself comes with the parser's library.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DATA_DIRS = (
    "/usr/share/tesseract-ocr/5/tessdata",  # Debian 12 and newer
    "/usr/share/tesseract-ocr/4.00/tessdata",  # Debian 11
    "/usr/share/tesseract/tessdata",  # Fedora
    "/usr/share/tessdata",  # Arch, Alpine
    "/opt/homebrew/share/tessdata",
    "/usr/local/share/tessdata",
)
_PAGES_NAMED_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionLimits:
    """What recognising the text of one document may cost, and in which languages it is done."""

    data_dir: str
    languages: str = "eng"
    """As tesseract writes them: ``eng``, ``deu+eng``."""
    pages_max: int = 100
    page_s: float = 20.0
    total_s: float = 300.0
    """All pages together, without the time they wait for a free parser process."""


def find_data(languages: str, *, data_dir: Path | None = None) -> Path | None:
    """The folder that has the data of every language, if there is one; only ``data_dir`` is looked at when it is given."""
    folders = [data_dir] if data_dir is not None else [Path(folder) for folder in DATA_DIRS]
    files = [f"{language}.traineddata" for language in languages.split("+")]
    return next((folder for folder in folders if all((folder / file).is_file() for file in files)), None)


def pages(numbers: Sequence[int]) -> str:
    """For people: ``page 3``, ``pages 3, 5 and 7``."""
    if len(numbers) == 1:
        return f"page {numbers[0]}"
    if len(numbers) > _PAGES_NAMED_MAX:
        return f"{len(numbers):,} pages from {numbers[0]} to {numbers[-1]}"
    return f"pages {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
