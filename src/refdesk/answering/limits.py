"""The ceilings of one question: each refusal names the limit, the actual value and the setting."""

import msgspec

from refdesk.contracts.answers import Question, Usage
from refdesk.contracts.errors import InvalidRequest, OutputLimitTooHigh, QuestionTooLong
from refdesk.outside import tokens

CHARACTERS_PER_TOKEN_MAX = 16
"""No question has more on average: the longest ordinary words are one token."""


class AnswerLimits(msgspec.Struct, frozen=True, kw_only=True):
    question_tokens_max: int
    output_tokens_max: int
    output_tokens_default: int
    context_tokens_max: int
    wait_seconds_max: float
    count_tokens: tokens.CountTokens = tokens.input_tokens

    def check_question(self, text: str) -> None:
        if not text.strip():
            raise InvalidRequest("The question is empty. Ask something.", field="question")
        count = len(text) // CHARACTERS_PER_TOKEN_MAX
        if count <= self.question_tokens_max:  # what is far too long is not read at all
            count = tokens.count_once(text, self.count_tokens)
        if count > self.question_tokens_max:
            raise QuestionTooLong(
                f"The question has about {count} tokens; the limit is {self.question_tokens_max} "
                "(REFDESK_QUESTION_TOKENS_MAX). Shorten it, or put the text into a document.",
                limit=self.question_tokens_max,
                actual=count,
            )

    def output_tokens(self, question: Question) -> int:
        """How long the answer may be; raises OutputLimitTooHigh."""
        wanted = question.max_output_tokens
        if wanted is None:
            return min(self.output_tokens_default, self.output_tokens_max)
        if wanted > self.output_tokens_max:
            raise OutputLimitTooHigh(
                f"max_output_tokens is {wanted}; the limit is {self.output_tokens_max} (REFDESK_OUTPUT_TOKENS_MAX).",
                limit=self.output_tokens_max,
                actual=wanted,
            )
        return wanted

    def wait_seconds(self, question: Question) -> float:
        asked = question.wait_seconds
        return self.wait_seconds_max if asked is None else min(asked, self.wait_seconds_max)

    def at_most(self, question: Question) -> Usage:
        """What the answer may use at most: what a budget reserves."""
        return Usage(self.context_tokens_max, self.output_tokens(question))
