"""The doors for other people's clients, as the settings have them."""

from refdesk.answering.assistant import Assistant
from refdesk.answering.evidence.gate import Gate
from refdesk.answering.indexed_documents import IndexedDocuments
from refdesk.answering.reuse.sharing import SharedLimits
from refdesk.app.settings import Settings
from refdesk.doors.mcp.routes import McpRoutes
from refdesk.doors.mcp.tools import Tools
from refdesk.doors.openai.answers import OpenAiAnswers
from refdesk.doors.openai.chat import ChatRoutes
from refdesk.doors.openai.chat_requests import ChatLimits
from refdesk.doors.openai.embeddings import EmbeddingRoutes
from refdesk.doors.openai.models import model_endpoints
from refdesk.doors.protected_resource import Issuer, metadata_endpoints
from refdesk.index.open_generations import OpenGenerations
from refdesk.web.endpoints import Endpoint

NO_SCOPES = ("openid", "offline_access")


def door_endpoints(settings: Settings, assistant: Assistant, generations: OpenGenerations) -> list[Endpoint]:
    chat = ChatRoutes(
        OpenAiAnswers(assistant, send_timeout_s=settings.send_timeout_s),
        limits=_chat_limits(settings),
        with_list=settings.sources_in_text,
    )
    embeddings = EmbeddingRoutes(
        assistant,
        generations,
        texts_max=settings.embedding_texts_max,
        bytes_max=settings.embedding_body_bytes_max,
        limits=_embedding_limits(settings),
    )
    return [
        *chat.endpoints(),
        *model_endpoints(),
        *embeddings.endpoints(),
        *metadata_endpoints(_issuer(settings)),
    ]


def agents_door(assistant: Assistant, generations: OpenGenerations, gate: Gate) -> McpRoutes:
    """The one for agents, which has something to run."""
    return McpRoutes(Tools(assistant, IndexedDocuments(assistant, generations=generations, gate=gate)))


def _issuer(settings: Settings) -> Issuer | None:
    """Agents ask for an access token alone: not for an ID token, nor to stay signed in."""
    if settings.oidc_issuer is None:
        return None
    return Issuer(
        settings.oidc_issuer, tuple(scope for scope in settings.oidc_scopes.split() if scope not in NO_SCOPES)
    )


def _chat_limits(settings: Settings) -> ChatLimits:
    return ChatLimits(
        turns_max=settings.history_turns_max,
        characters_max=settings.history_characters_max,
        style_characters_max=settings.style_characters_max,
        output_tokens_max=settings.output_tokens_max,
    )


def _embedding_limits(settings: Settings) -> SharedLimits:
    return SharedLimits(
        at_once_max=settings.concurrent_embeddings_max,
        waiting_max=settings.waiting_retrievals_max,
        waiting_principals_max=settings.waiting_principals_max,
        wait_s_max=settings.retrieval_wait_s_max,
        work="calls to embed",
        settings="REFDESK_CONCURRENT_EMBEDDINGS_MAX and REFDESK_WAITING_RETRIEVALS_MAX",
    )
