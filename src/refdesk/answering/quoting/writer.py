"""The writer without a language model: it quotes what the extractor finds, and says how far that can be relied on."""

from refdesk.answering.quoting.extractive import MODEL_NAME, PASSAGES_READ, Extractor, Quote
from refdesk.answering.text.sentences import COLONS
from refdesk.answering.writing import prompting
from refdesk.answering.writing.writers import Assignment, Draft, Meter, Verdict
from refdesk.contracts.answers import FinishReason, Usage
from refdesk.outside import tokens

NEW_LINE = "\n"
"""Between quotes: a table row has no stop of its own."""
CLOSEST = "The documents may not answer this. These passages are the closest:"


class Quoting:
    """The extractive writer: no model, no network, verbatim sentences."""

    model = MODEL_NAME
    passages_read = PASSAGES_READ

    def __init__(self, extractor: Extractor, *, certainty_min: float) -> None:
        self._extractor = extractor
        self._certainty_min = certainty_min

    async def write(self, assignment: Assignment, draft: Draft) -> Verdict:
        draft.model = self.model
        found = await self._extractor.find(assignment.question, assignment.sources, follow_up=assignment.follow_up)
        is_certain = found.certainty >= self._certainty_min
        meter = Meter(assignment.output_tokens_max)
        pieces = [_cited(quote) for quote in found.quotes] or [prompting.NOT_FOUND]
        if found.quotes and not is_certain:
            pieces.insert(0, CLOSEST)
        for position, piece in enumerate(pieces):
            allowed = meter.allow([f"{NEW_LINE if position else ''}{piece}"])
            if allowed:
                draft.say(allowed)
            if meter.spent:
                break
        if meter.spent:
            finish: FinishReason = "length"
        else:
            finish = "not_found" if not found.quotes else "stop" if is_certain else "closest"
        return Verdict(finish, Usage(tokens.input_tokens(assignment.question), meter.used))


def _cited(quote: Quote) -> str:
    """The quote with its citation; a list has one behind each of its items, and none behind the line that introduces it."""
    lines = quote.text.split("\n")
    return "\n".join(line if line.endswith(COLONS) and len(lines) > 1 else f"{line} [{quote.n}]" for line in lines)
