"""Whether each sentence of an answer stands on the passages it cites.

*Supported*: nothing in it contradicts the cited passages, and most of its content words stand there. *Contradicted*: a value, a
name, a quote, a negation or a direction is not what the cited passages say (``claims``), or another passage says it and the cited
one does not. *Unchecked*: neither can be said. So it is with a paraphrase in other words, and with what claims nothing: a
heading, a line that introduces a list, code.

A sentence without a citation is given the source that supports it best, if one does.
"""

from collections.abc import Iterable, Sequence

from refdesk.answering.grounding.claims import contradiction
from refdesk.answering.grounding.facts import Facts, Ground, ground
from refdesk.answering.text.blocks import Blocks, is_claim
from refdesk.answering.text.sentences import Cut, citations
from refdesk.contracts.answers import Sentence, Source, Support
from refdesk.index.chunks import place

SUPPORT_SHARE_MIN = 0.6
"""Share of a sentence's content words that must stand in the cited passages."""
ELSEWHERE_SHARE_MAX = 0.34
"""With a smaller share, and support from a passage that is not cited, the citation is wrong."""
UNCITED_SOURCES_MAX = 4
"""Sources that a sentence without a citation is compared with: those that share most of its words."""


class Grounding:
    """Checks the sentences of one answer, in their order, against its sources. ``question`` may be repeated."""

    def __init__(self, sources: Iterable[Source], *, question: str = "") -> None:
        self._sources = {source.n: source for source in sources}
        self._asked = Ground("", question)
        self._blocks = Blocks()

    def check(self, cut: Cut) -> Sentence:
        """The sentence as an event. Citations of sources that do not exist are not counted."""
        block = self._blocks.next(cut)
        cited = tuple(n for n in citations(cut.text) if n in self._sources)
        if not is_claim(cut.text, block):
            return Sentence(text=cut.text, citations=cited, support="unchecked", block=block)
        claim = Facts(cut.text)
        if not cited:
            cited, support = self._uncited(claim)
        else:
            support = self._support(claim, cited)
            if support == "unchecked" and self._stands_elsewhere(claim, cited):
                support = "contradicted"
        return Sentence(text=cut.text, citations=cited, support=support, block=block)

    def _uncited(self, claim: Facts) -> tuple[tuple[int, ...], Support]:
        nearest = sorted(self._sources, key=lambda n: (-_share(claim, [self._ground(n)]), n))[:UNCITED_SOURCES_MAX]
        support = {n: self._support(claim, (n,)) for n in nearest}
        best = next(((n,) for n in nearest if support[n] == "supported"), ())
        if best:
            return best, "supported"
        return (), "contradicted" if self._support(claim, nearest) == "contradicted" else "unchecked"

    def _support(self, claim: Facts, cited: Sequence[int]) -> Support:
        grounds = [self._ground(n) for n in cited]
        if contradiction(claim, grounds, asked=self._asked) is not None:
            return "contradicted"
        return "supported" if _share(claim, grounds) >= SUPPORT_SHARE_MIN else "unchecked"

    def _stands_elsewhere(self, claim: Facts, cited: Sequence[int]) -> bool:
        """Not in the passages that are cited, but in another. What they say in another language, nobody can tell."""
        grounds = [self._ground(n) for n in cited]
        if _share(claim, grounds) > ELSEWHERE_SHARE_MAX or any(each.is_german != claim.is_german for each in grounds):
            return False
        others = [n for n in self._sources if _share(claim, [self._ground(n)]) >= SUPPORT_SHARE_MIN]
        return any(self._support(claim, (n,)) == "supported" for n in others)

    def _ground(self, n: int) -> Ground:
        source = self._sources[n]
        return ground(place(source.title, source.heading), source.passage)


def _share(claim: Facts, grounds: Sequence[Ground]) -> float:
    content = claim.words.content
    if not content:
        return 0.0
    unknown = content.difference(*(ground.words.content for ground in grounds))
    return 1 - len(unknown) / len(content)
