"""What parsing one document may cost, by the settings: for whoever has a pool of parsers."""

from refdesk.app.settings import Settings
from refdesk.indexing.parsed import ParsingLimits
from refdesk.indexing.recognition import RecognitionLimits, find_data


def parsing_limits(settings: Settings) -> ParsingLimits:
    return ParsingLimits(
        wall_s=settings.parse_seconds_max,
        cpu_s=max(1, round(settings.parse_seconds_max)),
        memory_bytes_max=settings.parse_memory_bytes_max,
        pages_max=settings.parse_pages_max,
        characters_max=settings.parse_characters_max,
        blocks_max=settings.parse_blocks_max,
        archive_members_max=settings.parse_archive_members_max,
        archive_bytes_max=settings.parse_archive_bytes_max,
        archive_ratio_max=settings.parse_archive_ratio_max,
        attachments_max=settings.attachments_max,
        attachment_bytes_max=settings.attachment_bytes_max,
        attachment_depth_max=settings.attachment_depth_max,
        processors_spared=settings.parse_processors_spared,
        recognition=_recognition(settings),
    )


def _recognition(settings: Settings) -> RecognitionLimits | None:
    """None where the languages' data is not installed."""
    data_dir = find_data(settings.ocr_languages, data_dir=settings.ocr_data_dir)
    if data_dir is None:
        return None
    return RecognitionLimits(
        data_dir=str(data_dir),
        languages=settings.ocr_languages,
        pages_max=settings.ocr_pages_max,
        page_s=settings.ocr_page_seconds_max,
        total_s=settings.ocr_seconds_max,
    )
