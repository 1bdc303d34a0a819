"""Several language models in order of preference, as one writer."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from refdesk.answering.writing.circuit import Circuit
from refdesk.answering.writing.generating import Generating, WindowTooSmall
from refdesk.answering.writing.writers import Assignment, Draft, Verdict
from refdesk.contracts.errors import ModelFailed
from refdesk.outside import telemetry
from refdesk.outside.llm.errors import LlmOnlyThought, LlmTimeout, LlmUnknown

logger = logging.getLogger(__name__)

ATTEMPTS_PER_MODEL = 2
RETRY_DELAY_S = 0.2
PROBE_PAUSE_S, PROBE_PAUSE_S_MAX = 15.0, 600.0
"""Between two questions to a model in trouble, at first and after many."""
NOT_AGAIN = (LlmTimeout, LlmOnlyThought, LlmUnknown)
"""Failures of which the same call to the same model would be another."""
RETRY_AFTER_MAX_S = 2
"""A provider that wants a longer pause is passed over: somebody is waiting for words."""


class Models:
    """Several models in order of preference, as one writer: the next one is tried before the first word, never after.

    A failed call is repeated once on the same model when that may help; waiting for a silent model once more does not. A model
    that keeps failing is left out for a while (``Circuit``). A request that is refused as such is not tried anywhere else, but
    where a server does not have the model, the next one is.
    """

    def __init__(self, models: Sequence[Generating], *, circuits: Sequence[Circuit]) -> None:
        self.model = models[0].model
        self.passages_read = models[0].passages_read
        self.trouble: dict[str, ModelFailed] = {}
        """Why a model's last call failed, by model; nothing of those that answer."""
        self.answered: set[str] = set()
        """The models that have answered a call of this process."""
        self._models = tuple(zip(models, circuits, strict=True))

    async def write(self, assignment: Assignment, draft: Draft) -> Verdict:
        failure: ModelFailed | None = None
        for model, circuit in self._models:
            with model.chat(assignment) as chat:
                for _ in range(ATTEMPTS_PER_MODEL):
                    attempt = circuit.attempt()
                    if attempt is None:
                        break
                    try:
                        with attempt:
                            return await self._attempt(model, assignment, draft, chat)
                    except ModelFailed as error:
                        failure = error
                        if draft.begun or not (error.retryable or isinstance(error, LlmUnknown)):
                            raise
                        if isinstance(error, NOT_AGAIN) or (error.retry_after_s or 0) > RETRY_AFTER_MAX_S:
                            break
                        await asyncio.sleep(error.retry_after_s or RETRY_DELAY_S)
        raise failure or self._left_alone()

    async def _attempt(self, model: Generating, assignment: Assignment, draft: Draft, chat: telemetry.Chat) -> Verdict:
        with self._noting(model):
            return await model.attempt(assignment, draft, chat)

    async def watch(self) -> None:
        """Asks each model one tiny question, and those in trouble again, until the task is cancelled."""
        unasked = [model for model, _ in self._models]
        pause_s = PROBE_PAUSE_S
        while True:
            for model in unasked:
                await self._probe(model)
            unasked = [model for model, _ in self._models if model.model in self.trouble]
            pause_s = min(2 * pause_s, PROBE_PAUSE_S_MAX) if unasked else PROBE_PAUSE_S
            await asyncio.sleep(pause_s)

    async def _probe(self, model: Generating) -> None:
        before = self.trouble.get(model.model)
        try:
            with self._noting(model):
                await model.probe()
        except ModelFailed as error:
            if before is None or before.message != error.message:
                logger.warning("%s does not answer; the documents are quoted instead. %s", model.model, error.message)
        else:
            logger.info("%s answers", model.model)

    @contextmanager
    def _noting(self, model: Generating) -> Iterator[None]:
        """Keeps whether the call was answered. A request that is too long for a window says nothing about the model."""
        try:
            yield
        except WindowTooSmall:
            raise
        except ModelFailed as error:
            self.trouble[model.model] = error
            raise
        self.answered.add(model.model)
        self.trouble.pop(model.model, None)

    def _left_alone(self) -> ModelFailed:
        last = next(iter(self.trouble.values()), None)
        return ModelFailed(
            "Every language model has failed lately and is left alone for a while."
            + (f" The last time: {last.message}" if last else "")
        )
