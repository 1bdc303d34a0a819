"""Both embedders give unit vectors that mean something, in the order asked, for any text whatever."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.outside.embedding import packaged as embedding
from refdesk.outside.embedding.packaged import Embedder, PackagedEmbedder, Turns, open_packaged_embedder
from refdesk.outside.embedding.prepared import FP32, prepare
from refdesk.outside.embedding.server import HttpEmbedder, open_http_embedder
from refdesk.outside.embedding.vectors import Vectors

FOREIGN = "休暇は何日ありますか。東京の事務所で働いています。"
MIXED = [
    "How many days of leave do I have?",
    "",
    FOREIGN,
    "🙂🚀🧪",
    "SELECT count(*) FROM orders WHERE state = 'open';",
    "The warranty of the pump ends 24 months after delivery. " * 12,
    "naïve café – “quoted” – 1,234.56 €",
    "a",
    "word " * 5_000,
    "x" * 50_000,
]


@pytest.fixture(scope="module")
async def packaged(models: Path) -> AsyncIterator[PackagedEmbedder]:
    async with open_packaged_embedder(models, turns=Turns(threads=2, texts=3)) as embedder:
        yield embedder


class TestPackagedEmbedder:
    async def test_a_paraphrase_is_closer_than_another_topic(self, packaged: PackagedEmbedder) -> None:
        """Known facts of meaning hold, with a margin."""
        question, paraphrase, other = await packaged.embed(
            [
                "How can I reset my password?",
                "What do I do to get a new password when I forgot mine?",
                "The quarterly report shows rising steel prices.",
            ]
        )
        assert question @ paraphrase > 0.6
        assert question @ other < 0.25

    async def test_vectors_have_length_one_for_any_text(self, packaged: PackagedEmbedder) -> None:
        """Empty, very long, emoji, CJK: each has a finite unit vector."""
        vectors = await packaged.embed(MIXED)
        assert vectors.shape == (len(MIXED), packaged.dimensions)
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    async def test_what_a_question_in_a_script_without_spaces_means_is_not_known(
        self, packaged: PackagedEmbedder
    ) -> None:
        """Its words find passages; a foreign word in an English question changes nothing."""
        foreign = ["休暇は何日ありますか", "年假", "VPN の設定方法は", "วันลา", "연차 휴가는 며칠인가요"]
        english = ["How many days of leave?", "What does 年假 mean in the handbook?", "", "?", "Сколько дней отпуска?"]
        vectors = await packaged.embed_questions([*foreign, *english])
        assert not vectors[: len(foreign)].any()
        assert np.array_equal(vectors[len(foreign) :], await packaged.embed(english))

    async def test_a_text_has_one_vector_whatever_its_neighbours(self, packaged: PackagedEmbedder) -> None:
        """Vectors come in the order of the texts, and neither company nor threads change them."""
        together = await packaged.embed(MIXED[:8] * 3)
        alone = np.concatenate([await packaged.embed([text]) for text in MIXED[:8]])
        assert np.array_equal(np.tile(alone, (3, 1)), together)

    async def test_no_text_gives_no_vector(self, packaged: PackagedEmbedder) -> None:
        """An empty batch is a batch."""
        assert (await packaged.embed([])).shape == (0, packaged.dimensions)

    async def test_only_the_window_is_read(self, packaged: PackagedEmbedder) -> None:
        """What comes after ``tokens_max`` tokens changes nothing."""
        window = "word " * packaged.tokens_max
        first, second = await packaged.embed([window, window + "elephant " * 100])
        assert np.allclose(first, second, atol=1e-6)

    async def test_tokens_come_with_the_vector_of_the_whole(self, packaged: PackagedEmbedder) -> None:
        """Each of length one, and where it stands; the vector is the one that `embed` gives."""
        texts = [text for text in MIXED if text != FOREIGN]
        encoded = await packaged.encode(texts)
        assert np.array_equal(np.stack([one.vector for one in encoded]), await packaged.embed(texts))
        for text, one in zip(texts, encoded, strict=True):
            assert one.tokens.shape == (len(one.spans), packaged.dimensions)
            assert np.allclose(np.linalg.norm(one.tokens, axis=1), 1, atol=1e-5)
            assert one.spans == packaged.token_spans(text[: embedding.CHARACTERS_MAX])[: packaged.tokens_max]

    async def test_what_is_written_without_spaces_is_not_read(self, packaged: PackagedEmbedder) -> None:
        """It is like no other text."""
        (foreign, english) = await packaged.encode([FOREIGN, MIXED[0]])
        assert not foreign.vector.any() and not len(foreign.tokens) and len(english.tokens)

    async def test_marker_names_in_a_text_are_text(self, packaged: PackagedEmbedder) -> None:
        """A document cannot put the model's own markers into its input."""
        assert packaged.count_tokens(["[SEP]"]) == packaged.count_tokens(["[sep]"])
        assert packaged.count_tokens(["[SEP]"])[0] > 1

    async def test_int8_vectors_are_those_of_the_full_model(self, packaged: PackagedEmbedder, tmp_path: Path) -> None:
        """Their cosine is 0.975 or more, above 0.985 on average (ADR 65)."""
        full = await asyncio.to_thread(_full_precision, MIXED[:8], packaged, tmp_path)
        cosines = ((await packaged.embed(MIXED[:8])) * full).sum(axis=1)
        assert cosines.min() >= 0.975
        assert cosines.mean() >= 0.985

    async def test_token_spans_cut_a_text_into_windows(self, packaged: PackagedEmbedder) -> None:
        """Spans are character offsets into the text as given, in order, also for CJK and accents."""
        text = "Größe: 12 mm. 東京🙂 ok"
        spans = packaged.token_spans(text)
        assert len(spans) == packaged.count_tokens([text])[0]
        assert all(start < end for start, end in spans)
        assert spans == sorted(spans)
        assert text[spans[0][0] : spans[0][1]].lower() in "größe"
        assert text[spans[-1][0] : spans[-1][1]] == "ok"

    def test_embedding_does_not_load_the_converter(self, packaged: PackagedEmbedder) -> None:
        """`onnx` and torch stay out of a process that embeds."""
        code = "import sys, refdesk.outside.embedding.packaged; print({'onnx', 'torch', 'transformers'} & set(sys.modules))"
        output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert output.stdout.strip() == "set()"

    def test_it_keeps_to_itself(self, tmp_path: Path) -> None:
        """onnxruntime leaves no id and no database of what it did in the user's home, and so has nothing to send."""
        code = "import refdesk.outside.embedding.packaged"
        environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        assert list(tmp_path.rglob("*")) == []


def _full_precision(texts: list[str], packaged: PackagedEmbedder, directory: Path) -> Vectors:
    """The same texts through the graph before quantisation."""
    file = asyncio.run(prepare([directory], name=FP32))
    session = embedding.open_session(file)
    rows = []
    for text in texts:
        tokens = packaged._tokenizer.encode(text, add_special_tokens=False).ids[: packaged.tokens_max]
        input_ids = np.array([[101, *tokens, 102]], dtype=np.int32)
        (vectors,) = session.run(["embedding"], {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids)})
        rows.append(np.asarray(vectors)[0])
    return np.stack(rows)


class Server:
    """A small stand-in for an embedding server: letter counts as vectors, and a fault when told."""

    def __init__(self) -> None:
        self.status = 200
        self.dimensions = 4
        self.requests: list[list[str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body["input"])
        if self.status != 200:
            return web.json_response({"error": {"message": "no"}}, status=self.status, headers={"Retry-After": "7"})
        rows = [[1.0 + text.count(letter) for letter in "abcdefgh"[: self.dimensions]] for text in body["input"]]
        data = [{"index": index, "embedding": row} for index, row in enumerate(rows)]
        return web.json_response({"data": data[::-1], "model": body["model"]})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    server = Server()
    application = web.Application()
    application.router.add_post("/v1/embeddings", server.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield server, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


@pytest.fixture
async def remote(server: tuple[Server, str]) -> AsyncIterator[HttpEmbedder]:
    async with open_http_embedder(server[1], model="letters", window=32) as embedder:
        yield embedder


class TestHttpEmbedder:
    async def test_order_and_length_are_ours(self, server: tuple[Server, str], remote: HttpEmbedder) -> None:
        """Many requests, answers in any order: vectors come in the order of the texts, with length one."""
        texts = ["a" * (1 + number % 30) for number in range(200)]
        vectors = await remote.embed(texts)
        assert vectors.shape == (200, 4)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        expected = np.array([[2.0 + number % 30, 1, 1, 1] for number in range(200)])
        assert np.allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
        assert all(len(texts) <= 64 for texts in server[0].requests)

    async def test_a_server_tells_no_tokens(self, remote: HttpEmbedder) -> None:
        """Only the vectors of whole texts."""
        encoded = await remote.encode(["a", "b"])
        assert np.array_equal(np.stack([one.vector for one in encoded]), await remote.embed(["a", "b"]))
        assert [(len(one.tokens), one.spans) for one in encoded] == [(0, []), (0, [])]

    async def test_long_and_empty_texts_are_made_to_fit(self, server: tuple[Server, str], remote: HttpEmbedder) -> None:
        """A server never sees more than its window, nor an empty string, which some refuse."""
        await remote.embed(["word " * 1_000, "", "  "])
        long, *empty = server[0].requests[-1]
        assert remote.count_tokens([long]) == [remote.tokens_max]
        assert empty == [" ", " "]

    async def test_a_busy_server_is_tried_again_later(self, server: tuple[Server, str], remote: HttpEmbedder) -> None:
        """429 and 5xx become `Unavailable`, with the server's own delay."""
        server[0].status = 429
        with pytest.raises(Unavailable) as raised:
            await remote.embed(["a"])
        assert raised.value.retryable
        assert raised.value.retry_after_s == 7

    async def test_a_refusal_is_a_matter_of_settings(self, server: tuple[Server, str], remote: HttpEmbedder) -> None:
        """401, 404 and the like do not heal by themselves."""
        server[0].status = 401
        with pytest.raises(ConfigurationError, match="401"):
            await remote.embed(["a"])

    async def test_another_number_of_dimensions_is_refused(
        self, server: tuple[Server, str], remote: HttpEmbedder
    ) -> None:
        """A model that was swapped behind the URL does not spoil the index."""
        server[0].dimensions = 5
        with pytest.raises(ConfigurationError, match="dimensions"):
            await remote.embed(["a"])

    async def test_a_server_that_is_away_is_unavailable(self) -> None:
        """No connection, no traceback: `Unavailable`."""
        with pytest.raises(Unavailable):
            async with open_http_embedder("http://127.0.0.1:9/v1", model="letters"):
                pass

    def test_it_keeps_the_port(self, remote: HttpEmbedder, packaged: PackagedEmbedder) -> None:
        """Both are embedders, to the type checker and to the eye."""
        embedders: list[Embedder] = [remote, packaged]
        assert [embedder.dimensions for embedder in embedders] == [4, 384]
