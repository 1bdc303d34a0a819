"""The server of a language model: where its API is, how it is asked, and what its refusals mean."""

from collections.abc import Mapping
from contextlib import closing

import msgspec

from refdesk.contracts.errors import ConfigurationError, ModelFailed
from refdesk.contracts.hidden_characters import clean
from refdesk.contracts.texts import whole_number
from refdesk.outside.http_client import HttpClient, Reply
from refdesk.outside.llm.addresses import CALL, MODELS, ModelAddress
from refdesk.outside.llm.errors import LlmKeyRefused, LlmMisplaced, LlmRefused, LlmUnknown, words_of

BODY_BYTES_MAX = 1 << 20
OK = 200
ABSENT = (404, 405)
_OF_THE_ADDRESS = ("unknown request url", "invalid url", "no route")
"""How servers speak of a missing address though they name a model in it."""


class Answered(msgspec.Struct, frozen=True):
    """A reply; of one that is no success, the body is read."""

    reply: Reply
    words: str = ""


class _Named(msgspec.Struct):
    id: str


class _Listed(msgspec.Struct):
    data: list[_Named]


class ModelServer:
    """An OpenAI-compatible API. Where it begins, if the address leaves that open, is found by asking, and then kept.

    Raises ConfigurationError when there is a key beside the credentials in its address: a call carries one of them.
    """

    def __init__(self, client: HttpClient, address: ModelAddress, *, api_key: str | None = None) -> None:
        if api_key and address.authorization:
            raise ConfigurationError(
                "REFDESK_LLM_URL holds a user and a password, and REFDESK_LLM_API_KEY is set; a call carries one of them. "
                "Remove the other."
            )
        self._client = client
        self._address = address
        self._api_key = api_key
        self._paths = address.paths
        self._headers: dict[str, str] = {}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
            if address.query:  # as Azure wants it
                self._headers["api-key"] = api_key
        elif address.authorization:
            self._headers["Authorization"] = address.authorization

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        return self._client.server

    @property
    def shown(self) -> str:
        """Its address for people, without what is secret."""
        return f"{self._address.root}{self._paths[0]}"

    async def post(self, body: bytes, *, headers: Mapping[str, str], connect_s: float) -> Answered:
        """Asks for a chat completion. The reply of a success is to be closed. Raises what ``HttpClient.post`` does."""
        for path in self._paths:
            target = f"{path}{CALL}{self._address.query}"
            reply = await self._client.post(target, body, headers={**self._headers, **headers}, connect_s=connect_s)
            if reply.status == OK:
                self._paths = (path,)
                return Answered(reply)
            words = self._without_key(words_of(await _body(reply)))
            if reply.status not in ABSENT or _speaks_of_the_model(words):
                break
        return Answered(reply, words)

    async def get_models(self, *, connect_s: float) -> tuple[int, bytes]:
        """Status and body of the list of its models."""
        for path in self._paths:
            target = f"{path}{MODELS}{self._address.query}"
            reply = await self._client.get(target, headers=self._headers, connect_s=connect_s)
            body = await _body(reply)
            if reply.status == OK:
                break
        return reply.status, body

    async def get_model_names(self, *, connect_s: float) -> list[str]:
        """The models it lists; none where it lists them in another form."""
        status, body = await self.get_models(connect_s=connect_s)
        try:
            listed = msgspec.json.decode(body, type=_Listed) if status == OK else _Listed([])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return []
        return [model.id for model in listed.data]

    def refusal(self, answered: Answered, *, model: str) -> ModelFailed:
        """Why there is no answer, and what to do about it."""
        reply, words = answered.reply, answered.words
        status = reply.status
        said = f"{status}: {words}" if words else str(status)
        if status in (408, 409, 429) or status >= 500:
            after_s = whole_number(reply.headers.get("retry-after", ""))
            return ModelFailed(f"The model's server at {self.shown} answered {said}", retry_after_s=after_s)
        if status == 407:
            return LlmRefused(
                f"The proxy on the way to {self.shown} refuses us ({said}). Mend HTTP_PROXY, or add the host to NO_PROXY."
            )
        if status in (401, 403):
            return LlmKeyRefused(
                f"The model's server at {self.shown} refuses the key ({said}). Mend REFDESK_LLM_API_KEY, or the user and "
                "password in REFDESK_LLM_URL."
            )
        if 300 <= status < 400:
            return LlmMisplaced(
                f"The server at {self.shown} answered {status} and points to {_location(reply)}. Set REFDESK_LLM_URL to the "
                "address of its API."
            )
        if status in ABSENT and _speaks_of_the_model(words):
            return LlmUnknown(f"The server at {self.shown} does not have {model} ({said}). Mend REFDESK_LLM_MODEL.")
        if status in ABSENT:
            return LlmMisplaced(
                f"The server at {self.shown} has no {CALL} there ({said}). REFDESK_LLM_URL is the address before {CALL}."
            )
        mend = " Set REFDESK_LLM_CONTEXT_TOKENS_MAX to the model's window." if "context" in words.lower() else ""
        return LlmRefused(f"The model's server at {self.shown} refused the request ({said}).{mend}")

    def require_answer_form(self, reply: Reply) -> None:
        """Raises LlmMisplaced for a reply that holds no answer whatever its status says."""
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/html":
            raise LlmMisplaced(
                f"The server at {self.shown} answered with a web page. Set REFDESK_LLM_URL to the address of its API."
            )
        encoding = reply.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise LlmMisplaced(
                f"The server at {self.shown} compresses its answers ({encoding}), although nobody asked for it. Switch that off "
                "there, or in the proxy before it."
            )

    def _without_key(self, words: str) -> str:
        """Servers repeat the key that they refuse."""
        return words.replace(self._api_key, "…") if self._api_key else words


def is_whole(reply: Reply) -> bool:
    """Whether the reply is one JSON object, not a stream."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _speaks_of_the_model(words: str) -> bool:
    lowered = words.lower()
    return "model" in lowered and not any(phrase in lowered for phrase in _OF_THE_ADDRESS)


def _location(reply: Reply) -> str:
    """Without what may be secret in it."""
    scheme, slashes, rest = clean(reply.headers.get("location", "nowhere")).partition("?")[0].rpartition("//")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"[:200]


async def _body(reply: Reply) -> bytes:
    """As much of it as is read."""
    body = bytearray()
    with closing(reply):
        while len(body) < BODY_BYTES_MAX and (piece := await reply.read()):
            body += piece
    return bytes(body)
