"""What parsing one document may cost, by the settings: for whoever has a pool of parsers."""

from refdesk.indexing.parsed import ParsingLimits
from refdesk.indexing.recognition import RecognitionLimits, find_data
from refdesk.settings.tree import Settings


def parsing_limits(settings: Settings) -> ParsingLimits:
    return ParsingLimits(
        wall_s=settings.parsing.seconds_max,
        cpu_s=max(1, round(settings.parsing.seconds_max)),
        memory_bytes_max=settings.parsing.memory_bytes_max,
        pages_max=settings.parsing.pages_max,
        characters_max=settings.parsing.characters_max,
        blocks_max=settings.parsing.blocks_max,
        archive_members_max=settings.parsing.archive_members_max,
        archive_bytes_max=settings.parsing.archive_bytes_max,
        archive_ratio_max=settings.parsing.archive_ratio_max,
        attachments_max=settings.parsing.attachments_max,
        attachment_bytes_max=settings.parsing.attachment_bytes_max,
        attachment_depth_max=settings.parsing.attachment_depth_max,
        processors_spared=settings.parsing.processors_spared,
        recognition=_recognition(settings),
    )


def _recognition(settings: Settings) -> RecognitionLimits | None:
    """None where the languages' data is not installed."""
    data_dir = find_data(settings.recognition.languages, data_dir=settings.recognition.data_dir)
    if data_dir is None:
        return None
    return RecognitionLimits(
        data_dir=str(data_dir),
        languages=settings.recognition.languages,
        pages_max=settings.recognition.pages_max,
        page_s=settings.recognition.page_seconds_max,
        total_s=settings.recognition.seconds_max,
    )
