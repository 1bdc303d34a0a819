"""All settings, as the tree of their groups and by their flat names: those of the environment, and of the file.

A setting's flat name is its field's own name, unless its group has a prefix (``rename``) or its field another ``name``.
Presence selects: with ``nats_url`` unset, ``refdesk up`` starts its own NATS; with ``llm_url`` unset, answers are quoted from
the documents.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from refdesk.settings.access import AuditLog, IdentityProvider, Keys, SessionLimits
from refdesk.settings.answers import Answers, Chat, Conversations, EmbeddingCalls, GapLimits, Graces, Keeping, Questions
from refdesk.settings.client import Client
from refdesk.settings.connections import Connections
from refdesk.settings.documents import Changes, FeedLimits, PageImages, SyncLimits, UploadLimits, Uploads
from refdesk.settings.indexing import EmbeddingModel, Indexing, LaneSettings, QdrantSettings
from refdesk.settings.limits import AdmissionLimits, Budgets, Searches, Usage
from refdesk.settings.models import Clocks, LanguageModel, ModelCalls, RerankingCalls, RerankingModel
from refdesk.settings.places import Address, Places
from refdesk.settings.reading import Parsing, PoolSizes, Recognition
from refdesk.settings.servers import Databases, Nats, Pools, Services, StreamSettings, ValkeyServer
from refdesk.settings.telemetry import LogFiles, Telemetry

PREFIX = "REFDESK_"

BASIC = frozenset(
    """
    data_dir content_dir host port trusted_proxies public_url allowed_hosts metrics_token
    oidc_issuer oidc_client_id oidc_client_secret oidc_scopes oidc_groups_claim oidc_groups oidc_roles oidc_role oidc_audience
    oidc_recheck_s session_idle_s_max session_s_max
    database_url documents_database_url index_database_url access_database_url qdrant_url qdrant_api_key
    nats_url nats_monitoring_url stream_replicas valkey_url documents_url bootstrap_key_file operator_key url api_key otlp_url
    upload_bytes_max parse_seconds_max parse_processes_max ocr_data_dir ocr_languages ocr_pages_max
    index_concurrency embedding_threads reconcile_interval_s
    embedding_url embedding_model embedding_api_key embedding_tokens_max model_dir rerank_url rerank_model rerank_api_key
    tls_certificate tls_key
    llm_url llm_model llm_api_key llm_context_tokens_max llm_tokenizer llm_temperature
    question_tokens_max output_tokens_max passages_max certainty_min similarity_min answer_retention_s
    conversations_kept conversation_retention_s
    concurrent_answers_max requests_per_minute_max tokens_per_minute_max tokens_per_day_max
    tokens_per_month_max cost_per_day_max cost_per_month_max usage_caps llm_prices llm_currency
    """.split()
)
"""What most desks set, or look at before they grow. All others are *advanced*: their defaults suit nearly everybody."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The groups, by topic."""

    places: Places = Places()
    address: Address = Address()
    connections: Connections = Connections()
    databases: Databases = Databases()
    pools: Pools = Pools()
    nats: Nats = Nats()
    streams: StreamSettings = StreamSettings()
    valkey: ValkeyServer = ValkeyServer()
    services: Services = Services()
    client: Client = Client()
    telemetry: Telemetry = Telemetry()
    log_files: LogFiles = LogFiles()
    keys: Keys = Keys()
    audit: AuditLog = AuditLog()
    provider: IdentityProvider = IdentityProvider()
    sessions: SessionLimits = SessionLimits()
    uploads: Uploads = Uploads()
    upload_limits: UploadLimits = UploadLimits()
    page_images: PageImages = PageImages()
    feed: FeedLimits = FeedLimits()
    syncs: SyncLimits = SyncLimits()
    changes: Changes = Changes()
    parsing: Parsing = Parsing()
    parsers: PoolSizes = PoolSizes()
    recognition: Recognition = Recognition()
    indexing: Indexing = Indexing()
    lanes: LaneSettings = LaneSettings()
    embedding: EmbeddingModel = EmbeddingModel()
    qdrant: QdrantSettings = QdrantSettings()
    language_model: LanguageModel = LanguageModel()
    model_calls: ModelCalls = ModelCalls()
    clocks: Clocks = Clocks()
    reranking: RerankingModel = RerankingModel()
    reranking_calls: RerankingCalls = RerankingCalls()
    answers: Answers = Answers()
    questions: Questions = Questions()
    keeping: Keeping = Keeping()
    graces: Graces = Graces()
    conversations: Conversations = Conversations()
    gaps: GapLimits = GapLimits()
    chat: Chat = Chat()
    embedding_calls: EmbeddingCalls = EmbeddingCalls()
    searches: Searches = Searches()
    admission: AdmissionLimits = AdmissionLimits()
    budgets: Budgets = Budgets()
    usage: Usage = Usage()

    @classmethod
    def of(cls, **values: Any) -> "Settings":
        """The defaults with these values, by their flat names. The values are as their types say."""
        return cls().having(**values)

    def having(self, **values: Any) -> "Settings":
        """These settings with other values, by their flat names. Raises KeyError for a name that is none."""
        groups: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            setting = settings_by_name()[name]
            groups.setdefault(setting.group, {})[setting.field] = value
        changed = {group: msgspec.structs.replace(getattr(self, group), **fields) for group, fields in groups.items()}
        return msgspec.structs.replace(self, **changed)

    def value(self, name: str) -> Any:
        """Of the setting with this flat name."""
        setting = settings_by_name()[name]
        return getattr(getattr(self, setting.group), setting.field)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Where a setting stands, and what it may be."""

    group: str
    field: str
    kind: Any
    default: Any


@cache
def settings_by_name() -> Mapping[str, Setting]:
    """All of them by their flat names, in the order of the tree."""
    return {
        field.encode_name: Setting(group=group.name, field=field.name, kind=field.type, default=field.default)
        for group in msgspec.structs.fields(Settings)
        for field in msgspec.structs.fields(group.type)
    }
