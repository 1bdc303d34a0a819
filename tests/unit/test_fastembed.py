"""Models by the names that fastembed has for them. The library is an extra: most of this is skipped loudly without it."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.model_folders import DIMENSIONS, export_embedder

from refdesk.app.services.generations import choose_model
from refdesk.contracts.errors import ConfigurationError, InvalidRequest
from refdesk.outside.embedding.fastembed import PREFIX, open_fastembed_embedder
from refdesk.outside.embedding.packaged import open_packaged_embedder
from refdesk.outside.embedding.prepared import FP32
from refdesk.settings.tree import Settings

HAS_IT = importlib.util.find_spec("fastembed") is not None
with_it = pytest.mark.skipif(not HAS_IT, reason="FASTEMBED IS NOT TESTED: install refdesk[fastembed].")
OURS = "refdesk/exported-mini"


@pytest.mark.skipif(HAS_IT, reason="fastembed is installed")
async def test_without_the_extra_one_sentence_says_what_to_install() -> None:
    """To whoever asks for the model."""
    with pytest.raises(InvalidRequest, match=r"install refdesk\[fastembed\]") as refused:
        await choose_model(Settings(), f"{PREFIX}BAAI/bge-small-en-v1.5")
    assert refused.value.details["field"] == "model"


@with_it
async def test_a_name_that_the_library_does_not_have_is_refused(tmp_path: Path) -> None:
    """Without looking for it anywhere."""
    with pytest.raises(ConfigurationError, match="fastembed has no model nobody/nothing"):
        async with open_fastembed_embedder(f"{PREFIX}nobody/nothing", tmp_path):
            pass


@with_it
async def test_without_a_hub_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder to fill, or another way."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigurationError, match=r"and could not be fetched: .* copy that folder, or name a folder"):
        async with open_fastembed_embedder(f"{PREFIX}BAAI/bge-small-en-v1.5", tmp_path / "fastembed"):
            pass


@with_it
async def test_a_model_of_the_library_gives_unit_vectors(tmp_path: Path) -> None:
    """Ours, told to the library as one of its own: the vectors of the packaged model, for texts of any length."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    folder = await export_embedder(tmp_path / "mini", models=tmp_path / "models")
    described: dict[str, Any] = {"model": OURS, "pooling": PoolingType.MEAN, "normalization": True, "dim": DIMENSIONS}
    source = ModelSource(hf=OURS)
    TextEmbedding.add_custom_model(**described, sources=source, model_file="onnx/model.onnx")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 256, "pad_token": "[PAD]"}', "utf-8")
    (folder / "config.json").write_text('{"pad_token_id": 0}', "utf-8")
    (folder / "special_tokens_map.json").write_text("{}", "utf-8")
    texts = ["How many days of leave?", "", "word " * 900]
    async with (
        open_packaged_embedder(tmp_path / "models", name=FP32) as packaged,
        open_fastembed_embedder(f"{PREFIX}{OURS}", tmp_path, specific_model_path=str(folder)) as embedder,
    ):
        assert (embedder.name, embedder.dimensions, embedder.tokens_max) == (f"{PREFIX}{OURS}", DIMENSIONS, 254)
        assert np.abs(await embedder.embed(texts) - await packaged.embed(texts)).max() < 1e-4
        assert np.abs(await embedder.embed_questions(texts[:1]) - await packaged.embed(texts[:1])).max() < 1e-4
        assert embedder.count_tokens(texts) == packaged.count_tokens(texts)
        assert embedder.token_spans(texts[0]) == packaged.token_spans(texts[0])
