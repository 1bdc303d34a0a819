"""Which of the scored units are quoted: a whole list, one for each thing compared, two that lead on, or the best few.

A list is quoted whole when what it stands under is what was asked, and no single item is::

    What do we look at in the weekly check?     The weekly check · We look at:     - the bell  - the lock pin  …
    How do I change an inner tube?              Changing an inner tube             1. Hang …   2. Open the nuts …
    How tight are the wheel nuts?                                                  7. … tighten the nuts to …  ◀── one item

Two units lead on when the first names what the second says more of::

    What is the number of the colleague at Pier 6?     Pier 6 · Chidi Okeke     Chidi Okeke · 555-3103
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import msgspec

from refdesk.answering.quoting.scoring import Scored
from refdesk.answering.quoting.wanted import Name, Wanted
from refdesk.answering.text.sentences import Words
from refdesk.answering.text.units import Unit

NEAR_BEST = 0.85
NEAR_BEST_ELSEWHERE = 0.9
"""Another document must be nearer to the best: one is enough unless the question needs two."""
LIST_NEAR_BEST = 0.85
STEPS_NEAR_BEST = 0.75
"""A list whose best item is this near to the best of all is preferred to it: a procedure that was asked for, sooner."""
LED_MIN = 0.5
"""The share of the question's words that a list must stand under; all of them where one thing is asked for."""
STEPS_TOGETHER = 2
"""So many quotes out of one procedure are better read in their order, with all that stands between them."""
LEADS_ON_MIN = 0.6
"""How near to the best the first of two units that lead on must be."""
MORE_STEPS_NEAR_BEST = 0.6
"""How near to the best the first procedure of a document must be, and its others to that."""
ITEMS_MAX = 20
QUOTES_MAX = 4

_NAMED = re.compile(r"(?<![\w’'-])[A-Z][\w’'-]++(?: [A-Z][\w’'-]++)+")
"""Two capitalised words or more: one alone may begin a sentence."""


def choose(wanted: Wanted, ranked: Sequence[Scored], *, lists: Sequence[Unit]) -> list[Scored]:
    """In the order to show them; not none. ``ranked`` are the best first, not none; ``lists`` all that there are."""
    return (
        (_each_named(wanted, ranked) if wanted.compared else [])
        or _whole_list(wanted, ranked, lists)
        or _procedures(wanted, ranked, lists)
        or _leading_on(wanted, ranked)
        or _near_best(wanted, ranked, lists)
    )


def _near_best(wanted: Wanted, ranked: Sequence[Scored], lists: Sequence[Unit]) -> list[Scored]:
    best = ranked[0]
    near = [best, *(one for one in ranked[1:] if one.score >= _near(one, best) * best.score)]
    quotes = list(_apart(near))[:QUOTES_MAX]
    return ([] if wanted.one else _in_order(quotes, lists)) or quotes


def _near(one: Scored, best: Scored) -> float:
    same = one.unit.source.document_id == best.unit.source.document_id
    return NEAR_BEST if same else NEAR_BEST_ELSEWHERE


def _each_named(wanted: Wanted, ranked: Sequence[Scored]) -> list[Scored]:
    """The best on each of the things compared, in the question's order; none when one of them is missing.

    One that speaks of all of them is enough, if it says more of what was asked than their names.
    """
    if len(wanted.names) < 2:
        return []
    of_all = next((one for one in ranked if all(name.is_named_in(one.unit.text) for name in wanted.names)), None)
    named = set[str]().union(*(Words.of(name.text).content for name in wanted.names))
    if of_all is not None and wanted.found_in(of_all.unit.text) - named:
        return [of_all]
    best = [_best_on(name, wanted.names, ranked) for name in wanted.names]
    found = [one for one in best if one is not None]
    return _together(found) if len(found) == len(best) else []


def _best_on(name: Name, names: Sequence[Name], ranked: Sequence[Scored]) -> Scored | None:
    """The best that speaks of it, with what leans on that: of none of the others, if there is one."""
    naming = [one for one in ranked if name.is_named_in(one.unit.text)]
    others = [other for other in names if other is not name]
    alone = [one for one in naming if not any(other.is_named_in(one.unit.text) for other in others)]
    of_it = alone or naming
    if not of_it:
        return None
    begun = [one for one in of_it if one.unit.text.startswith(of_it[0].unit.text)]
    return max(begun, key=lambda one: len(one.unit.text))


def _whole_list(wanted: Wanted, ranked: Sequence[Scored], lists: Sequence[Unit]) -> list[Scored]:
    """The list whose best item, or whose introduction, is near the best, if the question asks for what it stands under."""
    for one in ranked:
        whole = _list_of(one.unit, lists)
        if whole is not None and _is_asked(wanted, whole):
            near_best = STEPS_NEAR_BEST if wanted.steps and whole.numbered else LIST_NEAR_BEST
            if one.score >= near_best * ranked[0].score:
                return [msgspec.structs.replace(one, unit=whole)]
    return []


def _procedures(wanted: Wanted, ranked: Sequence[Scored], lists: Sequence[Unit]) -> list[Scored]:
    """All steps of the document, in their order, where steps were asked for and no single list is what was asked."""
    near = [one for one in ranked if wanted.steps and one.score >= MORE_STEPS_NEAR_BEST * ranked[0].score]
    first = next((one for one in near if one.unit.kind == "item" and one.unit.numbered), None)
    if first is None or first.unit.source.document_id != ranked[0].unit.source.document_id:
        return []
    best: dict[tuple[int, int], Scored] = {}
    for one in ranked:
        whole = _list_of(one.unit, lists) if one.score >= MORE_STEPS_NEAR_BEST * first.score else None
        if whole is not None and whole.numbered and whole.source.document_id == first.unit.source.document_id:
            best.setdefault((whole.source.ordinal, whole.block), msgspec.structs.replace(one, unit=whole))
    inside = accumulate(one.unit.text.count("\n") + 1 for one in best.values())
    kept = [place for place, items in zip(best, inside, strict=True) if items <= ITEMS_MAX]
    return [best[place] for place in sorted(kept)]


def _is_asked(wanted: Wanted, whole: Unit) -> bool:
    led = wanted.found_in(f"{whole.surroundings()}\n{whole.lead}")
    if not led or len(led) < (1 if wanted.one else LED_MIN) * len(wanted.words):
        return False
    return (wanted.steps and whole.numbered) or not wanted.found_in(whole.text) - led


def _list_of(unit: Unit, lists: Sequence[Unit]) -> Unit | None:
    """The list that a unit is an item of, or introduces."""
    of_source = (one for one in lists if one.source.n == unit.source.n)
    if unit.kind == "item":
        return next((one for one in of_source if one.block == unit.block), None)
    return next((one for one in of_source if unit.own in one.lead), None)


def _in_order(quotes: Sequence[Scored], lists: Sequence[Unit]) -> list[Scored]:
    """The whole procedure that several of the quotes are steps of; none otherwise."""
    for one in quotes:
        whole = _list_of(one.unit, lists)
        if whole is not None and whole.numbered:
            together = [other for other in quotes if _list_of(other.unit, lists) is whole]
            if len(together) >= STEPS_TOGETHER:
                return [msgspec.structs.replace(one, unit=whole)]
    return []


def _leading_on(wanted: Wanted, ranked: Sequence[Scored]) -> list[Scored]:
    """One that has the question's names, and one that says more of somebody whom it names; none where one says all."""
    enough = LEADS_ON_MIN * ranked[0].score
    first = next(
        (one for one in ranked if one.score >= enough and not wanted.names_missing_in(one.unit.embedded())), None
    )
    if first is None:
        return []
    unsaid = wanted.words - wanted.found_in(first.unit.embedded())
    named = [name for name in _NAMED.findall(first.unit.own) if not any(one.stands_in(name) for one in wanted.names)]
    seconds = [
        (len(said), one)
        for one in ranked
        if one is not first
        and any(name in one.unit.own for name in named)
        and (said := unsaid & wanted.found_in(one.unit.text))
    ]
    if not seconds:
        return []
    _, second = max(seconds, key=lambda pair: (pair[0], pair[1].score))
    return _together([first, second])


def _together(quotes: Sequence[Scored]) -> list[Scored]:
    """Each with the likeness of all of them, as they answer together."""
    likeness = quotes[0].likeness
    for other in quotes[1:]:
        likeness = likeness.joined(other.likeness)
    return [msgspec.structs.replace(one, likeness=likeness) for one in quotes]


def _apart(ranked: Iterable[Scored]) -> Iterator[Scored]:
    """Without what another quote says already, or leans on."""
    said: list[Unit] = []
    for one in ranked:
        if not any(one.unit.own in other.text or other.own in one.unit.text for other in said):
            said.append(one.unit)
            yield one
