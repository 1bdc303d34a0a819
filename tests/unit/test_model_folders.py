"""A model in a folder: it gives what its own configuration says, and what is not whole is refused by name."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.model_folders import export_embedder, write

from refdesk.app.services.generations import choose_model
from refdesk.contracts.errors import ConfigurationError, InvalidRequest
from refdesk.contracts.scripts import is_unspaced
from refdesk.outside.embedding.folder import open_folder_embedder
from refdesk.outside.embedding.packaged import Turns, open_packaged_embedder
from refdesk.outside.embedding.prepared import FP32
from refdesk.outside.model_folder import look_into, recipe_of
from refdesk.settings.tree import Settings

TEXTS = ["How many days of leave do I have?", "", "休暇は何日ありますか。", "[SEP] is text", "word " * 900, "x" * 9000]


@pytest.fixture(scope="module")
async def exported(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return await export_embedder(tmp_path_factory.mktemp("folders") / "mini", models=models)


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "mini"))


def mend(file: Path, **changes: Any) -> None:
    write(file, json.loads(file.read_text("utf-8")) | changes)


async def test_a_folder_gives_what_the_packaged_model_gives(exported: Path, models: Path) -> None:
    """The same weights, pooled by the folder's own configuration: the same vectors, whatever the text."""
    async with (
        open_packaged_embedder(models, name=FP32) as packaged,
        open_folder_embedder(exported, turns=Turns(threads=2, texts=2)) as embedder,
    ):
        assert (embedder.dimensions, embedder.tokens_max) == (packaged.dimensions, packaged.tokens_max)
        ours, theirs = await embedder.embed(TEXTS), await packaged.embed(TEXTS)
        assert np.abs(ours - theirs).max() < 1e-4
        assert (await embedder.embed_questions(TEXTS[:1]) == ours[:1]).all()
        assert embedder.count_tokens(TEXTS) == packaged.count_tokens(TEXTS)
        assert embedder.token_spans(TEXTS[0]) == packaged.token_spans(TEXTS[0])
        english = [text for text in TEXTS if not is_unspaced(text)]  # the packaged one leaves others unread
        for one, other in zip(await embedder.encode(english), await packaged.encode(english), strict=True):
            assert [start for start, _ in one.spans] == [start for start, _ in other.spans]
            assert np.abs(one.tokens - other.tokens).max(initial=0) < 1e-3


async def test_what_the_model_wants_said_is_said(folder: Path) -> None:
    """Before questions one thing, before passages another; a passage's window is as much shorter."""
    async with open_folder_embedder(folder) as plain:
        wanted = await plain.embed(["query: leave", "passage: leave"])
        window = plain.tokens_max
    prompts = {"query": "query: ", "document": "passage: "}
    write(folder / "config_sentence_transformers.json", {"prompts": prompts})
    async with open_folder_embedder(folder) as embedder:
        found = [await embedder.embed_questions(["leave"]), await embedder.embed(["leave"])]
        assert np.abs(np.concatenate(found) - wanted).max() < 1e-5
        (encoded,) = await embedder.encode(["leave"])
        assert encoded.spans == [(0, 5)]
        assert embedder.tokens_max == window - 2


@pytest.mark.parametrize("pooling", ["cls_token", "max_tokens", "lasttoken"])
async def test_vectors_of_tokens_are_pooled_as_the_model_says(pooling: str, folder: Path) -> None:
    """Another pooling is another vector, of length one; and another name, since vectors of two are never compared."""
    async with open_folder_embedder(folder) as mean:
        before, name = await mean.embed(TEXTS[:1]), mean.name
    mend(folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, **{f"pooling_mode_{pooling}": True})
    async with open_folder_embedder(folder) as other:
        after = await other.embed(TEXTS[:1])
        assert other.name != name
    assert np.linalg.norm(after) == pytest.approx(1, abs=1e-5)
    assert float((before @ after.T)[0, 0]) < 0.99


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("tokenizer.json", "has no tokenizer.json"),
        ("onnx/model.onnx", "has no ONNX graph"),
        ("1_Pooling/config.json", "1_Pooling/config.json is missing"),
    ],
)
async def test_a_folder_that_is_not_whole_is_refused_by_name(gone: str, named: str, folder: Path) -> None:
    """Before anything is built with it, to whoever asks for it."""
    (folder / gone).unlink()
    with pytest.raises(ConfigurationError, match=re.escape(named)):
        async with open_folder_embedder(folder):
            pass
    with pytest.raises(InvalidRequest, match=re.escape(named)) as refused:
        await choose_model(Settings(), str(folder))
    assert refused.value.details["field"] == "model"


@pytest.mark.parametrize(
    ("file", "changes", "named"),
    [
        ("1_Pooling/config.json", {"word_embedding_dimension": 768}, "says 768 dimensions; the graph gives 384"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True},
            "asks for pooling_mode_mean_tokens and pooling_mode_cls",
        ),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "asks for no pooling"),
        ("1_Pooling/config.json", {"word_embedding_dimension": None}, "does not say word_embedding_dimension"),
    ],
)
async def test_a_model_that_is_not_what_its_files_say_is_refused(
    file: str, changes: dict[str, Any], named: str, folder: Path
) -> None:
    """With the file, what it says, and what was found."""
    mend(folder / file, **changes)
    with pytest.raises(InvalidRequest, match=named):
        await choose_model(Settings(), str(folder))


async def test_a_part_that_is_not_run_here_is_refused(folder: Path) -> None:
    """A dense layer after pooling would be left out without a word."""
    write(folder / "modules.json", [{"type": "sentence_transformers.models.Dense"}])
    with pytest.raises(ConfigurationError, match="has a module Dense"):
        recipe_of(folder)


async def test_what_is_no_json_and_what_is_no_graph_is_named(folder: Path) -> None:
    """The file, not a traceback."""
    (folder / "modules.json").write_text("{", "utf-8")
    with pytest.raises(ConfigurationError, match=r"modules\.json cannot be read"):
        recipe_of(folder)
    (folder / "onnx" / "model.onnx").write_bytes(b"no graph")
    write(folder / "modules.json", [])
    with pytest.raises(ConfigurationError, match=r"model\.onnx does not load"):
        async with open_folder_embedder(folder):
            pass


def test_a_folder_is_known_by_what_is_in_it(folder: Path, tmp_path: Path) -> None:
    """A copy has the same name; another window, vocabulary or graph has another."""
    name = look_into(folder).name
    assert look_into(Path(shutil.copytree(folder, tmp_path / "elsewhere" / "mini"))).name == name
    mend(folder / "sentence_bert_config.json", max_seq_length=128)
    found = look_into(folder)
    assert (found.tokens_max, found.name != name) == (128, True)
    for file in ("sentence_bert_config.json", "tokenizer_config.json"):
        (folder / file).unlink()
    with pytest.raises(ConfigurationError, match="does not say how many tokens"):
        look_into(folder)


async def test_a_name_that_is_no_folder_is_refused_with_what_there_is() -> None:
    """A path that is not there, a name that nobody has."""
    with pytest.raises(InvalidRequest, match="There is no model folder /nowhere/mini"):
        await choose_model(Settings(), "/nowhere/mini")
    with pytest.raises(InvalidRequest, match="There is no model 'mini'"):
        await choose_model(Settings(), "mini")
    with pytest.raises(ConfigurationError, match="neither a packaged model"):
        await choose_model(Settings.of(embedding_model="mini"), None)
