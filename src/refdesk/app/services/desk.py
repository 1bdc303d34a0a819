"""The Document Service and the api on one port: the front of `refdesk up`. The same parts, calling each other over HTTP."""

from refdesk.app.services import assistant, documents
from refdesk.app.services.common import open_keys, serve_door
from refdesk.settings.tree import Settings


async def serve(settings: Settings) -> None:
    """Runs until SIGINT or SIGTERM."""
    async with (
        open_keys(settings) as keys,
        documents.open_service(settings, keys) as document_service,
        assistant.open_service(settings) as answer_service,
    ):
        await serve_door(settings, keys, [document_service, answer_service])
