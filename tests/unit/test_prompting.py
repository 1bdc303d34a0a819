"""The prompt: numbered passages, one instruction, never more than the window holds."""

from hypothesis import given
from hypothesis import strategies as st

from refdesk.answering.conversations.turns import Turn, as_messages
from refdesk.answering.writing import prompting
from refdesk.contracts.answers import Source
from refdesk.outside.llm.parameters import Message


def source(n: int, passage: str = "Thirty days.", heading: str | None = None) -> Source:
    return Source(
        n=n, document_id=f"d{n}", version=1, title="Leave", passage=passage, ordinal=0, heading=heading, stale=False
    )


def test_the_prompt_is_the_instruction_the_passages_and_the_question() -> None:
    """Each passage under its number and its place."""
    system, user = prompting.messages("How many?", [source(1, heading="Paid"), source(2, "None.")], fence="f00d")
    assert (system.role, system.content) == ("system", prompting.INSTRUCTION)
    assert user == Message(
        "user",
        "Passages:\n--- f00d ---\n[1] Leave › Paid\nThirty days.\n\n[2] Leave\nNone.\n--- f00d ---\n\nQuestion: How many?",
    )


def byte_count(text: str) -> int:
    """A vocabulary of bytes: exact, where the estimate takes a text and its parts for different languages."""
    return len(text.encode())


@given(st.lists(st.text(max_size=400), max_size=8), st.text(max_size=100), st.integers(0, 5000))
def test_a_packed_prompt_fits(passages: list[str], question: str, tokens_max: int) -> None:
    """Whatever the passages are, and however many; the best come first."""
    sources = [source(n, passage) for n, passage in enumerate(passages, 1)]
    packed = prompting.pack(sources, question=question, fence="f00d", tokens_max=tokens_max, count=byte_count)
    assert list(packed.sources) == sources[: len(packed.sources)]
    if packed.sources:
        messages = prompting.messages(question, packed.sources, fence="f00d")
        whole = sum(prompting.cost(message, count=byte_count) for message in messages)
        assert whole <= packed.tokens <= tokens_max


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=200)), max_size=6), st.integers(0, 400))
def test_history_keeps_the_newest_whole_turns_that_fit(turns: list[tuple[str, str]], tokens_max: int) -> None:
    """Never an answer without its question."""
    history = as_messages([Turn(question, answer) for question, answer in turns])
    kept = prompting.recent(history, tokens_max=tokens_max)
    assert len(kept) % 2 == 0
    assert kept == history[len(history) - len(kept) :]
    assert sum(prompting.cost(message) for message in kept) <= tokens_max


def test_only_the_whole_phrase_says_not_found() -> None:
    """With or without its full stop; not as part of an answer."""
    assert prompting.is_not_found(" I could not find this in the documents. ")
    assert prompting.is_not_found("i could not find this in the documents")
    assert not prompting.is_not_found("I could not find this in the documents. But I know.")


def test_history_has_no_citations() -> None:
    """Their numbers meant other passages."""
    assert as_messages([Turn("Q?", "Thirty days. [1] Ask HR [2, 3].")])[1] == Message(
        "assistant", "Thirty days.  Ask HR."
    )
