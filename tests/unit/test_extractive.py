"""The quoting answerer on hand-written passages, with the real embedder."""

from collections.abc import AsyncIterator

import pytest

from refdesk.answering.extractive import Extractor, Quote
from refdesk.contracts.answers import Source
from refdesk.outside.embedding.packaged import open_packaged_embedder


@pytest.fixture(scope="module")
async def extractor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Extractor]:
    async with open_packaged_embedder(tmp_path_factory.mktemp("models")) as embedder:
        yield Extractor(embedder.embed)


def source(passage: str, *, n: int = 1, title: str = "Travel Policy") -> Source:
    return Source(n=n, document_id=f"d{n}", version=1, title=title, passage=passage, ordinal=0, stale=False)


async def quotes_of(extractor: Extractor, question: str, sources: list[Source]) -> list[Quote]:
    return (await extractor.find(question, sources)).quotes


async def test_the_answering_sentence_comes_first_with_its_source(extractor: Extractor) -> None:
    """Whatever the order of the passages."""
    sources = [
        source("Receipts are sent to Finance. They are kept for ten years."),
        source("The meal allowance abroad is EUR 45 a day. It is paid with the salary.", n=2),
    ]
    best, *_ = await quotes_of(extractor, "How much is the meal allowance abroad?", sources)
    assert (best.text, best.n) == ("The meal allowance abroad is EUR 45 a day.", 2)


async def test_a_numbered_heading_is_no_answer(extractor: Extractor) -> None:
    """Parsers do not always tell a heading from text; one word, be it numbered, says nothing."""
    quotes = await quotes_of(
        extractor, "What is the meal allowance?", [source("6. Meals\nThe meal allowance for a full day is EUR 45.")]
    )
    assert [quote.text for quote in quotes] == ["The meal allowance for a full day is EUR 45."]


async def test_weak_evidence_is_no_evidence(extractor: Extractor) -> None:
    """A desk that guesses is worse than one that says it does not know."""
    assert (
        await quotes_of(extractor, "Which flute does the choir play?", [source("Receipts are sent to Finance.")]) == []
    )


RUNBOOK = """Before you promote

1. Open an incident in Foghorn.
2. Switch Quayside to read-only.
3. Check the replication lag on the standby.

A standby with a lag of less than 30 seconds may be promoted by the on-call engineer alone."""


async def test_a_procedure_is_quoted_whole_and_in_order(extractor: Extractor) -> None:
    """With its heading before it: half of the steps are worse than none."""
    quotes = await quotes_of(
        extractor, "What do I do before I promote the standby?", [source(RUNBOOK, title="Failover")]
    )
    assert quotes[0].text.split("\n") == [
        "Before you promote:",
        "1. Open an incident in Foghorn.",
        "2. Switch Quayside to read-only.",
        "3. Check the replication lag on the standby.",
    ]


async def test_one_fact_out_of_a_procedure_is_quoted_alone(extractor: Extractor) -> None:
    """Who asks how many seconds wants no steps."""
    best, *_ = await quotes_of(
        extractor, "What lag may a standby have to be promoted?", [source(RUNBOOK, title="Failover")]
    )
    assert best.text.startswith("A standby with a lag of less than 30 seconds")


TIERS = """What the tiers mean

- A Tier 1 service is watched day and night.
- A Tier 2 service may be down for four hours.
- A Tier 3 service is looked after on working days."""


async def test_a_list_that_is_asked_for_is_quoted_whole(extractor: Extractor) -> None:
    """Its heading introduces it."""
    quotes = await quotes_of(extractor, "What do the service tiers mean?", [source(TIERS, title="Service Catalogue")])
    assert [quote.text.split("\n")[0] for quote in quotes] == ["What the tiers mean:"]
    assert quotes[0].text.count("\n- ") == 3


CATALOGUE = """Service | Purpose | Team
Gangway | gates and hand scanners | Team Curlew
Manifest | list of persons on board | Team Petrel"""


async def test_a_table_row_says_what_its_columns_are(extractor: Extractor) -> None:
    """The row that is about what the question names, never the header alone."""
    quotes = await quotes_of(
        extractor, "Which team is responsible for Manifest?", [source(CATALOGUE, title="Services")]
    )
    assert quotes[0].text == "Service: Manifest · Purpose: list of persons on board · Team: Team Petrel"


async def test_a_question_of_the_document_is_answered_not_quoted(extractor: Extractor) -> None:
    """Its words are the nearest to the asker's, and say nothing."""
    passage = (
        "Is there childcare?\n\nYes. The company holds 24 places at the nursery. They are given by length of service."
    )
    quotes = await quotes_of(extractor, "Is there childcare?", [source(passage, title="Benefits")])
    assert [quote.text for quote in quotes] == [passage.split("\n\n")[1]]


async def test_things_compared_are_each_quoted(extractor: Extractor) -> None:
    """In the question's order."""
    passage = (
        "- SEV1 means an incident in which nobody can board.\n- SEV2 means that a port is down.\n"
        "- SEV3 means an incident with little effect."
    )
    quotes = await quotes_of(
        extractor, "What is the difference between SEV1 and SEV3?", [source(passage, title="Terms")]
    )
    assert [quote.text[2:6] for quote in quotes] == ["SEV1", "SEV3"]


async def test_what_no_passage_names_is_not_answered_with_another(extractor: Extractor) -> None:
    """Oslo is no port of theirs."""
    passage = "Port | Port manager\nSkelby | Maeve Tierney\nHallin | Donal Keogh"
    sources = [source(passage, title="Contacts")]
    assert await quotes_of(extractor, "Who is the port manager of Oslo?", sources) == []
    assert (await quotes_of(extractor, "Who is the port manager of Skelby?", sources))[0].text.endswith("Maeve Tierney")


async def test_certainty_tells_an_answer_from_what_is_near_it(extractor: Extractor) -> None:
    """The passage names the vessel; how many engines it has, it does not say."""
    sources = [source("MV Fulmar is the oldest vessel and is due to be replaced in 2027.", title="Fleet")]
    answered = await extractor.find("When is MV Fulmar due to be replaced?", sources)
    near = await extractor.find("How many engines does MV Fulmar have?", sources)
    assert near.certainty < 0.7 < answered.certainty
