"""Counting with a model's own `tokenizer.json`: exactly, and whatever the text says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.packaged_vocabulary import packaged_tokenizer, write_tokenizer
from tests.unit.test_tokens import MEASURED

from refdesk.answering.writing import prompting
from refdesk.app.tiny_llm import model_path
from refdesk.contracts.answers import Source
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.tokens import CountTokens, input_tokens
from refdesk.outside.vocabularies import open_vocabularies, open_vocabulary

CHATML = "<|im_start|>", "<|im_end|>"
"""The markers of SmolLM2's template: one token each."""


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> CountTokens:
    file = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
    write_tokenizer(model_path(), file)
    return open_vocabulary(file)


@pytest.mark.parametrize("text", MEASURED)
def test_a_text_has_as_many_tokens_as_its_model_counts(smollm2: CountTokens, text: str) -> None:
    """As llama.cpp has counted them with the same vocabulary."""
    assert smollm2(text) == MEASURED[text]


def test_a_long_text_is_counted_to_its_end() -> None:
    """Whatever window the file was published with."""
    count = open_vocabulary(packaged_tokenizer())
    assert count("leave " * 1000) == 1000
    assert count("") == 0


def test_a_marker_in_a_text_is_text() -> None:
    """It costs what its characters cost."""
    assert open_vocabulary(packaged_tokenizer())("[SEP]") == 3


@given(st.lists(st.text(max_size=300), max_size=6), st.text(max_size=80))
def test_a_packed_prompt_is_never_longer_than_was_counted(
    smollm2: CountTokens, passages: list[str], question: str
) -> None:
    """Counted in parts, with room for the template; the whole is not more than its parts."""
    sources = [
        Source(n=n, document_id="d", version=1, title="Leave", passage=text, ordinal=0, stale=False)
        for n, text in enumerate(passages, 1)
    ]
    packed = prompting.pack(sources, question=question, fence=FENCE, tokens_max=100_000, count=smollm2)
    assert packed.tokens >= in_chatml(prompting.messages(question, packed.sources, fence=FENCE), smollm2)


FENCE = prompting.new_fence()


def in_chatml(messages: list[prompting.Message], count: CountTokens) -> int:
    """Tokens of the whole prompt: each message between two markers, then the beginning of the answer."""
    told = sum(count(f"{message.role}\n{message.content}") + count("\n") + len(CHATML) for message in messages)
    return told + 1 + count("assistant\n")


def test_several_files_count_for_several_models() -> None:
    """In their order; none at all leaves the estimate."""
    file = packaged_tokenizer()
    assert len(open_vocabularies(f"{file}, {file}")) == 2
    assert open_vocabularies(None) == open_vocabularies("") == []


@pytest.mark.parametrize(
    ("content", "words"), [(None, "is not there"), ("{}", "cannot be read"), ("no json", "cannot be read")]
)
def test_a_file_that_is_missing_or_broken_is_told(tmp_path: Path, content: str | None, words: str) -> None:
    """With its name, its setting and what to do."""
    file = tmp_path / "tokenizer.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"{words}.*REFDESK_LLM_TOKENIZER.*unset it"):
        open_vocabularies(str(file))


def test_the_estimate_is_never_below_the_count(smollm2: CountTokens) -> None:
    """For what is counted by it when there is no file."""
    assert all(input_tokens(text) >= smollm2(text) for text in MEASURED)
