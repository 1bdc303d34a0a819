"""The quoting answerer on hand-written passages, with the real embedder."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from refdesk.answering.quoting.extractive import Extractor, Quote
from refdesk.contracts.answers import Source
from refdesk.outside.embedding.packaged import open_packaged_embedder
from refdesk.outside.embedding.vectors import Encoded, without_tokens
from refdesk.settings.answers import Answers

UNSPACED = Path(__file__).parents[1] / "data" / "unspaced"


@pytest.fixture(scope="module")
async def extractor(models: Path) -> AsyncIterator[Extractor]:
    async with open_packaged_embedder(models) as embedder:
        yield Extractor(embedder.encode)


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


async def test_the_number_of_what_was_asked_comes_before_other_numbers(extractor: Extractor) -> None:
    """A sentence with the question's words and a number of something else does not answer how many there are."""
    sources = [
        source(
            "A request for more than 10 consecutive working days must be made at least eight weeks ahead. "
            "The manager must be told by 1 December how many days of leave will be carried over.",
            title="Leave Policy",
        ),
        source(
            "Full-time employees receive 27 days of paid annual leave per calendar year.", n=2, title="Leave Policy"
        ),
    ]
    best, *_ = await quotes_of(extractor, "How many days of leave do I get?", sources)
    assert best.n == 2


async def test_a_month_answers_when_whatever_sign_follows_it(extractor: Extractor) -> None:
    """What may be done does not: "may" is a month with its capital only."""
    lost = "Unused leave that was carried over is lost after March, without exception."
    passage = f"Unused leave may be carried over into the next year. {lost}"
    quotes = await quotes_of(extractor, "When is unused leave lost that was carried over?", [source(passage)])
    assert [quote.text for quote in quotes] == [lost]


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


FAILOVER = """When the primary is lost

Call the platform lead if the database of the bookings is down.

Before

1. Open an incident for the lost database.
2. Switch the bookings to read-only.

Promote

1. Fence the old primary of the database.
2. Promote the standby database."""


async def test_all_steps_of_a_runbook_are_quoted_where_no_single_list_was_asked(extractor: Extractor) -> None:
    """In their order, each list under its heading: who asks what to do wants all of it."""
    quotes = await quotes_of(
        extractor, "What do I do when the bookings cannot be reached?", [source(FAILOVER, title="Booking database")]
    )
    assert [quote.text.split("\n")[0] for quote in quotes] == ["Before:", "Promote:"]


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


TABLES = """Station | Docks | Looked after by
Pier 6 | 16 | Chidi Okeke
Kiln Lane | 14 | Emil Novak

Colleague | Telephone | Free day
Chidi Okeke | 555-3103 | Wednesday
Emil Novak | 555-3105 | Friday"""


async def test_one_quote_leads_on_to_another(extractor: Extractor) -> None:
    """Who looks after it, and what else is said of that person."""
    quotes = await quotes_of(
        extractor,
        "What is the telephone number of the colleague who looks after Kiln Lane?",
        [source(TABLES, title="Stations")],
    )
    assert [quote.text.split(" · ")[0] for quote in quotes] == ["Station: Kiln Lane", "Colleague: Emil Novak"]


BICYCLES = (
    "The Heron is the ordinary bicycle. It weighs 17 kilograms. The Pelican is the cargo bicycle. It weighs 39 kilograms. "
    "A Heron may be kept for 8 hours, a Pelican for 3 hours."
)


@pytest.mark.parametrize(
    ("question", "texts"),
    [
        (
            "What is the difference between a Heron and a Pelican?",
            [
                "The Heron is the ordinary bicycle. It weighs 17 kilograms.",
                "The Pelican is the cargo bicycle. It weighs 39 kilograms.",
            ],
        ),
        (
            "How long may a Heron be kept compared with a Pelican?",
            ["A Heron may be kept for 8 hours, a Pelican for 3 hours."],
        ),
    ],
)
async def test_nothing_is_quoted_twice_where_things_are_compared(
    extractor: Extractor, question: str, texts: list[str]
) -> None:
    """One sentence on both is enough, if it says what was asked."""
    assert [quote.text for quote in await quotes_of(extractor, question, [source(BICYCLES, title="Bicycles")])] == texts


WORKSHOP = """Taking the battery out

1. Switch the motor off and wait until the lamp is dark.
2. Turn the key a quarter turn to the left.
3. Tilt the battery towards you and lift it.
4. Put the cap on the contacts.

The weekly check

Mechanics check ten bicycles of each station. They look at:

- the bell
- tyre pressure
- the lock pin"""


@pytest.mark.parametrize(
    ("question", "first", "lines"),
    [
        ("How is the battery taken out?", "Taking the battery out:", 5),
        ("Guide to taking out the battery", "Taking the battery out:", 5),
        (
            "What do the mechanics look at in the weekly check?",
            "Mechanics check ten bicycles of each station. They look at:",
            4,
        ),
        ("Where is the key turned?", "2. Turn the key a quarter turn to the left.", 1),
    ],
)
async def test_a_list_is_quoted_whole_where_what_it_stands_under_is_asked(
    extractor: Extractor, question: str, first: str, lines: int
) -> None:
    """However the question is put; and one item where that alone is asked."""
    best, *_ = await quotes_of(extractor, question, [source(WORKSHOP, title="Workshop")])
    assert best.text.split("\n")[0] == first
    assert len(best.text.split("\n")) == lines


async def test_an_attribute_that_is_not_told_is_not_answered(extractor: Extractor) -> None:
    """The station is known; toilets are not."""
    sources = [source(TABLES, title="Stations")]
    told = await extractor.find("How many docks does Kiln Lane have?", sources)
    untold = await extractor.find("How many toilets does Kiln Lane have?", sources)
    assert untold.certainty < 0.5 < told.certainty


async def test_without_tokens_what_answers_is_found_as_well(models: Path) -> None:
    """By the vectors of whole texts: a model on a server tells no more."""
    async with open_packaged_embedder(models) as embedder:

        async def encode(texts: Sequence[str]) -> list[Encoded]:
            return without_tokens(await embedder.embed(texts))

        extractor = Extractor(encode)
        sources = [source(TABLES, title="Stations")]
        told = await extractor.find("How many docks does Kiln Lane have?", sources)
        untold = await extractor.find("Which flute does the choir play?", sources)
    assert told.quotes[0].text.startswith("Station: Kiln Lane")
    assert untold.certainty < 0.32 < told.certainty


@pytest.mark.parametrize(("language", "handbook"), [("zh", "员工手册.md"), ("ja", "就業規則.md")])
async def test_questions_without_spaces_are_answered_by_their_words(
    extractor: Extractor, language: str, handbook: str
) -> None:
    """Though the model cannot read them: 16 that a handbook answers, and 16 that it does not. Half of each was kept back."""
    title, *sections = (UNSPACED / handbook).read_text("utf-8").split("\n## ")
    sources = [source(passage, n=n, title=title.strip("# \n")) for n, passage in enumerate(sections, 1)]
    rows = [json.loads(line) for line in (UNSPACED / "questions.jsonl").read_text("utf-8").splitlines()]
    right, wrong = 0, list[str]()
    for row in rows:
        if row["language"] != language:
            continue
        found = await extractor.find(row["question"], sources)
        is_told = found.certainty >= Answers().certainty_min
        if row["expects"]:
            right += is_told and row["expects"] in found.quotes[0].text
        elif is_told:
            wrong.append(row["question"])
    assert right >= 12
    assert wrong == []
