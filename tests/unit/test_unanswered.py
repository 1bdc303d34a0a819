"""A call that a closed connection left unanswered is made once more, and no other."""

import aiohttp
import numpy as np
import pytest
from tests.support.kept_connections import breaking_server

from refdesk.outside.embedding.server import open_http_embedder
from refdesk.outside.reranking.server import open_http_reranker
from refdesk.outside.unanswered import once_more

VECTOR = b'{"data": [{"index": 0, "embedding": [3.0, 4.0]}]}'
RESULT = b'{"results": [{"index": 0, "relevance_score": 0.5}]}'


async def test_vectors_come_though_each_connection_is_good_for_one_call() -> None:
    """A question would end as unavailable else."""
    async with breaking_server(VECTOR) as url, open_http_embedder(url, model="m", api_key="k", dimensions=2) as remote:
        for _ in range(3):
            assert np.allclose(await remote.embed_questions(["leave"]), [[0.6, 0.8]])


async def test_passages_are_put_in_order_though_each_connection_is_good_for_one_call() -> None:
    """They would stay as they were found else."""
    async with (
        breaking_server(RESULT) as url,
        open_http_reranker(url, model=None, api_key=None, timeout_s=5.0) as reranker,
    ):
        for _ in range(3):
            assert await reranker.score("leave?", ["leave"]) == [0.5]


@pytest.mark.parametrize(("url", "tries"), [("", 2), ("http://127.0.0.1:9", 1)])
async def test_what_stays_unanswered_is_not_tried_for_ever(url: str, tries: int) -> None:
    """Twice where a connection was made, once where there is nobody."""
    made = 0
    async with breaking_server(answers=False) as breaking, aiohttp.ClientSession() as session:

        async def post() -> None:
            nonlocal made
            made += 1
            await session.post(url or breaking, data=b"x")

        with pytest.raises(aiohttp.ClientConnectionError):
            await once_more(post)
    assert made == tries
