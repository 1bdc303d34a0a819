"""When two questions may share an answer."""

import pytest

from refdesk.answering.reuse.similar import same_matter

DIFFERENT = [
    ("May I work from home?", "May I not work from home?"),
    ("How long is the notice for 2 years of service?", "How long is the notice for 5 years of service?"),
    ("What is the limit in Skelby?", "What is the limit in Carrow?"),
    ("How do I get from Skelby to Carrow?", "How do I get from Carrow to Skelby?"),
    ("Is it allowed before 9:00?", "Is it allowed after 9:00?"),
    ('What does "pending" mean?', 'What does "failed" mean?'),
    ("Which day is payday in March?", "Which day is payday in May?"),
    ("What is the minimum stay?", "What is the maximum stay?"),
    ("Is the limit EUR 50?", "Is the limit USD 50?"),
    ("Does the manager tell the driver?", "Does the driver tell the manager?"),
    ("What happens in the second week?", "What happens in the third week?"),
    ("Do visitors need a badge?", "Don't visitors need a badge?"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_turns_a_question_round_keeps_answers_apart(one: str, other: str) -> None:
    """However alike an encoder finds them."""
    assert not same_matter(one, other)


def test_other_words_for_the_same_particulars_may_share() -> None:
    """Paraphrases differ in common words only."""
    assert same_matter("Where is the big printer?", "Where is the large printer?")
