"""The reranker that the settings name: a server's, or a folder's."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from refdesk.answering.evidence.reranking import Reranking
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.reranking.folder import open_folder_reranker
from refdesk.outside.reranking.server import Reranker, open_http_reranker
from refdesk.settings.tree import PREFIX, Settings


@asynccontextmanager
async def open_reranking(settings: Settings) -> AsyncIterator[Reranking | None]:
    """None without a reranker. Raises ConfigurationError for a folder that has none."""
    if settings.reranking.url is None and settings.reranking.model is None:
        yield None
        return
    async with _open_reranker(settings) as reranker:
        yield Reranking(
            reranker, passages_max=settings.reranking.passages_max, timeout_s=settings.reranking_calls.timeout_s
        )


def _open_reranker(settings: Settings) -> AbstractAsyncContextManager[Reranker]:
    model = settings.reranking.model
    if settings.reranking.url is not None:
        return open_http_reranker(
            settings.reranking.url,
            model=model,
            api_key=settings.reranking_calls.api_key,
            timeout_s=settings.reranking_calls.timeout_s,
        )
    if model is None or not Path(model).is_absolute():
        raise ConfigurationError(
            f"{PREFIX}RERANK_MODEL={model} is not the whole path of a folder. For a model of a server, set {PREFIX}RERANK_URL, "
            "too."
        )
    return open_folder_reranker(Path(model))
