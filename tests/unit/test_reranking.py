"""Passages in a better order: every form of server, a folder of one's own, and the order of the search where there is none."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY
from tests.support.model_folders import export_cross_encoder, export_embedder, logit_weights, write
from tests.support.rerank_server import FORMS, rerank_server
from tokenizers import Tokenizer

from refdesk.answering.evidence.reranking import IDLE_S, PAUSE_S, Reranking
from refdesk.app.services.rerankers import open_reranking
from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.index.chunks import Passage
from refdesk.outside.embedding.folder import inputs_of
from refdesk.outside.embedding.packaged import open_session
from refdesk.outside.embedding.prepared import locate_model
from refdesk.outside.model_folder import look_into
from refdesk.outside.reranking.folder import open_folder_reranker
from refdesk.outside.reranking.server import LEAST, open_http_reranker
from refdesk.settings.tree import Settings

TEXTS = ["no light", "lantern", "lantern lantern", "dark"]


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_server_is_understood(form: str) -> None:
    """And found out once: the second question is one request."""
    async with (
        rerank_server(form) as server,
        open_http_reranker(server.url, model="m", api_key="k", timeout_s=5) as reranker,
    ):
        for _ in range(2):
            assert await reranker.score("light?", TEXTS) == [0.0, 0.1, 0.2, 0.0]
        assert len(server.asked) == (3 if form == "tei" else 2)
        assert set(server.keys) == {"Bearer k"}
        assert server.asked[-1]["query"] == "light?"


async def test_the_whole_address_of_the_call_will_do_as_well() -> None:
    """With `/rerank` at its end, or without."""
    async with (
        rerank_server("jina") as server,
        open_http_reranker(f"{server.url}/rerank/", model=None, api_key=None, timeout_s=5) as reranker,
    ):
        assert await reranker.score("light?", TEXTS) == [0.0, 0.1, 0.2, 0.0]
        assert "model" not in server.asked[0]


@pytest.mark.parametrize(
    ("body", "scores"),
    [
        ({"results": [{"index": 2, "relevance_score": 0.5}]}, [LEAST, LEAST, 0.5, LEAST]),
        ({"data": [{"index": 0, "score": 1}, {"index": 1, "score": 2}]}, [1.0, 2.0, LEAST, LEAST]),
        ({"results": []}, None),
        ({"results": [{"index": 9, "relevance_score": 0.5}]}, None),
        ({"results": [{"index": -1, "relevance_score": 0.5}]}, None),
        ({"results": [{"index": 0}]}, None),
        ({"results": "many"}, None),
        ([], None),
        ("text", None),
    ],
)
async def test_a_reply_is_a_ranking_of_what_was_sent_or_none(body: Any, scores: list[float] | None) -> None:
    """What was left out comes last; anything else is Unavailable."""
    async with (
        rerank_server("jina") as server,
        open_http_reranker(server.url, model=None, api_key=None, timeout_s=5) as reranker,
    ):
        server.body = body
        if scores is None:
            with pytest.raises(Unavailable):
                await reranker.score("light?", TEXTS)
        else:
            assert await reranker.score("light?", TEXTS) == scores


@pytest.mark.parametrize("status", [401, 404, 422, 429, 500])
async def test_a_refusal_is_unavailable_with_its_status(status: int) -> None:
    """Whatever it is: the reranking step leaves it out."""
    async with (
        rerank_server("jina") as server,
        open_http_reranker(server.url, model=None, api_key=None, timeout_s=5) as reranker,
    ):
        server.status = status
        with pytest.raises(Unavailable, match=f"answers {status}"):
            await reranker.score("light?", TEXTS)


def passages(*texts: str) -> list[Passage]:
    return [
        Passage(
            document_id=str(place),
            version=1,
            content_sha256="",
            title="",
            url=None,
            ordinal=0,
            text=text,
            heading=None,
            page=None,
            score=1.0 - place / 10,
            similarity=0.5,
        )
        for place, text in enumerate(texts)
    ]


class Scripted:
    """Scores by length, raises, or waits for ever."""

    name = "scripted"

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.hangs = False

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.error:
            raise self.error
        return [float(len(text)) for text in texts]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def order(found: Sequence[Passage]) -> str:
    return " ".join(passage.text for passage in found)


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("refdesk_rerankings_total", {"outcome": outcome}) or 0.0


async def test_the_first_passages_are_ordered_and_the_others_follow() -> None:
    """Equal scores keep the order of the search; scores of the search stay as they are."""
    reranking = Reranking(Scripted(), passages_max=4, timeout_s=5)
    found = await reranking.ordered("q", passages("a", "bbb", "c", "dd", "eeeee"))
    assert order(found) == "bbb dd a c eeeee"
    assert {passage.text: passage.score for passage in found}["bbb"] == 0.9
    await reranking.check()


async def test_one_that_is_away_is_left_out_counted_and_said() -> None:
    """And left alone for a while; then it is tried again, and all is well."""
    scripted, clock = Scripted(), Clock()
    reranking = Reranking(scripted, passages_max=4, timeout_s=5, clock=clock)
    scripted.error = Unavailable("The reranker is away.")
    before = {outcome: counted(outcome) for outcome in ("away", "paused", "ok")}
    for _ in range(3):
        assert order(await reranking.ordered("q", passages("a", "bb"))) == "a bb"
    assert scripted.asked == 1
    with pytest.raises(Unavailable, match=r"is away\. Passages keep the order of the search"):
        await reranking.check()
    scripted.error, clock.now = None, PAUSE_S
    assert order(await reranking.ordered("q", passages("a", "bb"))) == "bb a"
    await reranking.check()
    assert {outcome: counted(outcome) - count for outcome, count in before.items()} == {"away": 1, "paused": 2, "ok": 1}


async def test_readiness_tries_one_that_no_question_has_tried() -> None:
    """At the start, again soon after a failure, and else seldom: a call may cost."""
    scripted, clock = Scripted(), Clock()
    reranking = Reranking(scripted, passages_max=4, timeout_s=5, clock=clock)
    scripted.error = Unavailable("The reranker is away.")
    for _ in range(2):
        with pytest.raises(Unavailable, match="is away"):
            await reranking.check()
    assert scripted.asked == 1
    scripted.error, clock.now = None, PAUSE_S
    await reranking.check()
    clock.now += IDLE_S - 1
    await reranking.check()
    assert scripted.asked == 2
    clock.now += 1
    await reranking.check()
    assert scripted.asked == 3


async def test_one_that_is_slow_is_not_waited_for() -> None:
    """Longer than the setting says."""
    scripted, before = Scripted(), counted("slow")
    scripted.hangs = True
    reranking = Reranking(scripted, passages_max=4, timeout_s=0.01)
    async with asyncio.timeout(5):
        assert order(await reranking.ordered("q", passages("a", "bb"))) == "a bb"
    assert counted("slow") == before + 1
    with pytest.raises(Unavailable, match=r"took more than 0\.01 s"):
        await reranking.check()


async def test_what_leaves_nothing_to_order_asks_nobody() -> None:
    """No passage, or one."""
    scripted = Scripted()
    reranking = Reranking(scripted, passages_max=4, timeout_s=5)
    assert await reranking.ordered("q", []) == []
    assert order(await reranking.ordered("q", passages("a"))) == "a"
    assert scripted.asked == 0


@pytest.fixture(scope="module")
async def cross_encoder(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """And, beside it, an embedder, which is no cross-encoder."""
    folder = tmp_path_factory.mktemp("folders")
    await export_embedder(folder / "embedder", models=models)
    return await export_cross_encoder(folder / "cross", models=models)


async def test_a_folder_scores_a_question_with_a_passage(cross_encoder: Path) -> None:
    """What its graph gives for the pair, between its markers; a long passage is cut to the window."""
    pairs = ["The lantern hangs at the gate.", "", "word " * 2000]
    async with open_folder_reranker(cross_encoder) as reranker:
        scores = await reranker.score("Where is the lantern?", pairs)
    tokenizer = Tokenizer.from_file(str(locate_model() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256, strategy="longest_first")
    encoded = tokenizer.encode("Where is the lantern?", pairs[0])
    session = open_session(cross_encoder / "onnx" / "model.onnx")
    (given,) = session.run(["logits"], inputs_of(session, encoded.ids))
    assert scores[0] == pytest.approx(float(np.asarray(given)[0, 0]), abs=1e-5)
    assert len(set(scores)) == 3
    assert np.isfinite(scores).all()
    assert logit_weights().shape == (384, 1)


@pytest.mark.parametrize(
    ("gone", "named"), [("tokenizer.json", "has no tokenizer.json"), ("onnx/model.onnx", "has no ONNX graph")]
)
async def test_a_folder_that_is_not_whole_is_refused_by_name(
    gone: str, named: str, cross_encoder: Path, tmp_path: Path
) -> None:
    """At the start, in one sentence."""
    folder = Path(shutil.copytree(cross_encoder, tmp_path / "cross"))
    (folder / gone).unlink()
    with pytest.raises(ConfigurationError, match=named):
        async with open_reranking(Settings.of(rerank_model=str(folder))):
            pass


async def test_a_model_that_gives_no_score_is_refused(cross_encoder: Path) -> None:
    """An embedder gives a vector for each token."""
    with pytest.raises(ConfigurationError, match="gives no score for a question and a passage"):
        async with open_folder_reranker(cross_encoder.parent / "embedder"):
            pass


async def test_settings_say_which_reranker() -> None:
    """None unless one is named; a name without a server is refused."""
    async with open_reranking(Settings()) as none:
        assert none is None
    async with open_reranking(Settings.of(rerank_url="http://127.0.0.1:9", rerank_passages_max=7)) as some:
        assert some is not None and some.passages_max == 7
    with pytest.raises(ConfigurationError, match="REFDESK_RERANK_MODEL=jina is not the whole path of a folder"):
        async with open_reranking(Settings.of(rerank_model="jina")):
            pass


def test_a_window_is_told_even_where_only_the_layers_tell_it(tmp_path: Path) -> None:
    """config.json has the positions; a tokenizer that claims no end says nothing."""
    write(tmp_path / "config.json", {"max_position_embeddings": 512})
    write(tmp_path / "tokenizer_config.json", {"model_max_length": 1e30})
    write(tmp_path / "tokenizer.json", {})
    write(tmp_path / "model.onnx", {})
    assert look_into(tmp_path).tokens_max == 512
