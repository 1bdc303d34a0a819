"""The reranker that the settings name: a server's, or a folder's."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from refdesk.answering.evidence.reranking import Reranking
from refdesk.app.settings import PREFIX, Settings
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.reranking.folder import open_folder_reranker
from refdesk.outside.reranking.server import Reranker, open_http_reranker


@asynccontextmanager
async def open_reranking(settings: Settings) -> AsyncIterator[Reranking | None]:
    """None without a reranker. Raises ConfigurationError for a folder that has none."""
    if settings.rerank_url is None and settings.rerank_model is None:
        yield None
        return
    async with _open_reranker(settings) as reranker:
        yield Reranking(reranker, passages_max=settings.rerank_passages_max, timeout_s=settings.rerank_timeout_s)


def _open_reranker(settings: Settings) -> AbstractAsyncContextManager[Reranker]:
    model = settings.rerank_model
    if settings.rerank_url is not None:
        return open_http_reranker(
            settings.rerank_url, model=model, api_key=settings.rerank_api_key, timeout_s=settings.rerank_timeout_s
        )
    if model is None or not Path(model).is_absolute():
        raise ConfigurationError(
            f"{PREFIX}RERANK_MODEL={model} is not the whole path of a folder. For a model of a server, set {PREFIX}RERANK_URL, "
            "too."
        )
    return open_folder_reranker(Path(model))
