"""Every setting of Refdesk and its default, by topic (the comments above the first of each); more are in `accounts`.

Presence selects: with ``nats_url`` unset, ``refdesk up`` starts its own NATS; with ``llm_url`` unset, answers are quoted from
the documents.
"""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from refdesk.app.settings.kinds import Count, Port, Seconds, Whole
from refdesk.app.settings.signing_in import SigningIn

PREFIX = "REFDESK_"

DEFAULT_DATA_DIR = Path("~/.local/share/refdesk")

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


class Settings(SigningIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names are the environment's in lower case, without ``REFDESK_``. Units and qualifiers stand last."""

    # where things are
    data_dir: Path = DEFAULT_DATA_DIR
    """Everything `refdesk up` keeps: databases, content, models, logs."""
    content_dir: Path | None = None
    """Where document contents are kept; unset: `<data_dir>/content`."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs an API key to exist."""
    port: Port = 8080
    """Port to listen on."""
    tls_certificate: Path | None = None
    """A PEM file with the certificate of this port, and its chain. Read again when it changes. Unset: plain HTTP."""
    tls_key: Path | None = None
    """A PEM file with its private key, without a password."""
    plain_port: Port | None = None
    """With TLS: a further port without it, on loopback alone, for Refdesk's own services. `refdesk up` sets it."""

    # connections and requests
    send_timeout_s: Seconds = 10.0
    """How long a reader may take nothing of what is sent before their connection is cut."""
    headers_bytes_max: Annotated[int, Meta(ge=1024)] = 32 * 1024
    """The request line and headers of a request together."""
    headers_max: Annotated[int, Meta(ge=16, le=128)] = 100
    """Headers of a request."""
    headers_seconds_max: Annotated[float, Meta(gt=0)] = 10.0
    """How long a request's headers may take, from the connection's beginning or their first byte."""
    body_seconds_max: Annotated[float, Meta(gt=0)] = 30.0
    """How long a JSON body may take; uploads have a time of their own."""
    body_pause_seconds_max: Annotated[float, Meta(gt=0)] = 10.0
    """How long it may stand still."""
    keep_alive_s: Annotated[float, Meta(gt=0)] = 30.0
    """How long a connection without a request is kept."""
    connections_max: Count = 4000
    """Connections one process may have. Raises the limit of open files as far as the system lets it."""
    connections_per_client_max: Count = 400
    """Connections from one address (of IPv6: one /64). Loopback and trusted proxies may use all of them."""
    trusted_proxies: str | None = None
    """Addresses or networks, separated by commas, of proxies that speak for many clients: 10.0.0.5, 10.1.0.0/16."""
    public_url: Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+[^\s?#]*$")] | None = None
    """Where people find this desk, if a proxy stands before it: https://intranet.example/desk. Citations link there."""
    allowed_hosts: str | None = None
    """Names that this service goes by (`Host`), separated by commas: desk.example.org, *.example.net. Unset: any."""
    wrong_keys_per_minute_max: Count = 30
    """Wrong keys that one address may send in a minute before it must wait (429). This machine is exempt."""
    metrics_token: str | None = None
    """What a scraper on another machine sends as `Authorization: Bearer` for `/metrics` and `/health/ready?verbose`."""
    socket_idle_seconds_max: Annotated[float, Meta(gt=0)] = 600.0
    """How long a WebSocket may ask nothing and follow no answer."""

    # the servers that Refdesk uses
    database_url: str | None = None
    """A PostgreSQL (with pgvector) for `refdesk up` to use instead of its own."""
    documents_database_url: str | None = None
    """The Document Service's database. `refdesk up` sets it."""
    index_database_url: str | None = None
    """The AI Service's database, with pgvector. `refdesk up` sets it."""
    access_database_url: str | None = None
    """API keys. Unset with a documents database set: they live there."""
    key_rotation_grace_s: Annotated[float, Meta(ge=0, le=7 * 24 * 3600)] = 0.0
    """How long an API key still opens after `refdesk keys rotate` has made another in its place. 0: not at all."""
    access_silence_s_max: Annotated[float, Meta(ge=1)] = 4.0
    """How long streams and sockets stay open while the database of the API keys does not answer; then they end."""
    database_wait_s: Seconds = 10.0
    """How long a start waits for a database that does not answer yet."""
    nats_url: str | None = None
    """NATS with JetStream; several servers separated by commas. Unset: `refdesk up` starts its own."""
    nats_monitoring_url: str | None = None
    """Tells whether NATS writes to disk in time: its monitoring port, such as http://nats:8222, or a user of its system account,
    such as nats://system:password@nats:4222; several separated by commas."""
    stream_replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    """Servers of a NATS cluster that keep each message: 3 outlives the loss of one of them."""
    stream_storage: Literal["file", "memory"] = "file"
    """Where they keep it. In memory, what is not indexed yet is published again after a restart of NATS."""
    stream_bytes_max: Count = 1 << 30
    """Room of each of the two streams. Messages leave once all readers have acknowledged them. If it is full, changes wait."""
    stream_age_s_max: Seconds = 7 * 24 * 3600.0
    """How long a message stays at the most. What was not indexed by then is published again."""
    stream_message_bytes_max: Count = 1 << 20
    """The largest message."""
    stream_duplicate_window_s: Seconds = 120.0
    """How long NATS remembers ids of messages, to take none twice."""
    stream_cluster: str | None = None
    """The NATS cluster that keeps the streams, where there are several."""
    stream_tags: str | None = None
    """Tags of the NATS servers that keep them, separated by commas, such as `region:eu,ssd`."""
    stream_reader_replicas: Whole = 0
    """Servers that keep how far the readers of a stream are. 0: as many as keep the stream."""
    stream_reader_absent_s_max: Seconds = 24 * 3600.0
    """A foreign consumer that is not used for this long keeps no messages in the streams any more."""
    valkey_url: str | None = None
    """Valkey or Redis: `redis://`, `rediss://`, `unix://`, `redis+sentinel://host,host/service`, `redis+cluster://host,host`.
    Unset: `refdesk up` starts its own."""
    valkey_timeout_s: Annotated[float, Meta(gt=0)] = 0.5
    """How long a question waits for Valkey before it goes on without it; those after it wait no more until it answers again."""
    documents_url: str | None = None
    """Where the AI Service reaches the Document Service, such as http://documents:8080."""
    bootstrap_key_file: Path | None = None
    """A file with a key of `refdesk keys generate`, such as a mounted secret. Made an administrator's, unless it is known."""
    operator_key: str | None = None
    """Shared secret of Refdesk's own services. `refdesk up` makes one."""

    # the audit log
    audit_retention_days: Count = 365
    """How long entries of the audit log are kept."""
    audit_queue_max: Count = 10_000
    """Entries that may wait in one process while the database of the API keys is away. Further ones are lost, and counted."""

    # connections to PostgreSQL (docs/howto/operate.md has their sum)
    access_connections_max: Count = 2
    """Of one process, to look up keys."""
    audit_connections_max: Count = 2
    """Of one process, to write and read the audit log."""
    documents_read_connections_max: Count = 6
    """Of one Document Service, to read documents."""
    documents_write_connections_max: Count = 6
    """Of one Document Service, to change documents."""
    documents_background_connections_max: Count = 4
    """Of one Document Service, for the outbox, what indexers say, watching, tidying and metrics."""
    assistant_connections_max: Count = 6
    """Of one assistant, for all but searching; searches have `concurrent_retrievals_max`."""
    indexer_connections_max: Count = 8
    """Of one indexer."""

    # the command line as a client
    url: str = "http://127.0.0.1:8080"
    """The running Refdesk that `refdesk add`, `ask` and the others talk to."""
    api_key: str | None = None
    """The key they send. Unset: the operator's, when this account started that Refdesk."""
    sync_deleted_share_max: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """The share of a source's documents that one `refdesk sync` may delete; beyond it, it changes nothing."""

    # processes
    silence_seconds_max: Seconds = 8.0
    """How long a service that `refdesk up` has started may give no sign of life before it is started again. What it waits for a
    busy processor is not counted, nor is the time in which the machine sleeps."""

    # telemetry
    otlp_url: str | None = None
    """An OpenTelemetry collector for spans, such as http://collector:4318; needs the `tracing` extra."""
    # documents
    page_image_width_max: Count = 2400
    """The widest image of a page of a PDF, in pixels."""
    page_image_pixels_max: Count = 12_000_000
    """Pixels of such an image; a longer page is drawn narrower."""
    page_image_cache_bytes_max: Whole = 64 * 1024 * 1024
    """Drawn pages that the Document Service keeps in memory."""
    page_image_processes_max: Count = 1
    """Processes that draw pages, started when somebody looks at one. What one may take are the limits of parsing."""
    page_image_waiting_max: Count = 32
    """Pages that may wait to be drawn; more are refused (503)."""
    feed_watchers_max: Count = 500
    """Clients that may watch documents change, per process."""
    feed_watchers_per_principal_max: Count = 50
    """Of these, clients of one principal."""
    sync_receipts_kept: Count = 20
    """Receipts that are kept of each source that is synced; older ones go."""
    sync_sources_max: Count = 200
    """Sources of one owner that receipts are kept of; those that were not synced for the longest time go."""
    sync_receipt_entries_max: Count = 1000
    """Files that a receipt names, those that failed first; the others are counted."""
    upload_bytes_max: Count = 50 * 1024 * 1024
    """The largest file that is taken."""
    concurrent_uploads_max: Count = 32
    """Uploads of one principal that one process reads at a time."""
    uploads_per_minute_max: Count = 1200
    """Uploads one principal may begin in a minute, per process; administrators aside."""
    upload_bytes_per_day_max: Count = 20 * 1024**3
    """Bytes one principal may upload in a day (UTC), per process; administrators aside."""
    upload_seconds_max: Seconds = 900.0
    """How long an upload may take."""
    upload_pause_seconds_max: Seconds = 30.0
    """How long an upload may stand still."""

    # reading documents
    parse_seconds_max: Seconds = 30.0
    """How long reading one document may take, not counting how long it waits for a busy processor."""
    parse_memory_bytes_max: Count = 512 * 1024 * 1024
    """Memory that reading one document may take."""
    parse_pages_max: Count = 2000
    """Pages one document may have."""
    parse_characters_max: Count = 20_000_000
    """Characters of text one document may have."""
    parse_blocks_max: Count = 500_000
    """Paragraphs, list items and table rows of one document together."""
    parse_processors_spared: Annotated[int, Meta(ge=0)] = 1
    """Processors that reading documents keeps off, where there are more: there is always one without a hostile file."""
    parse_processes_max: Count = 2
    """Documents that are read at a time, each in a process of its own."""
    parse_waiting_max: Count = 64
    """Documents that may wait for one of these processes; one more is tried again later."""
    parse_process_idle_seconds_max: Seconds = 30.0
    """How long such a process is kept without work."""
    parse_process_documents_max: Count = 200
    """Documents it may read before a new one takes its place."""
    parse_process_bytes_max: Count = 192 * 1024 * 1024
    """Memory it may still hold after a document before a new one takes its place."""
    parse_archive_members_max: Count = 10_000
    """Files inside a DOCX, XLSX, ODT, EPUB and the like."""
    parse_archive_bytes_max: Count = 256 * 1024 * 1024
    """What those files may unpack to, all together."""
    parse_archive_ratio_max: Count = 200
    """How many times its size one of them may unpack to."""
    attachments_max: Count = 1000
    """Attachments of one mail, mailbox or PDF that are read; the others are named."""
    attachment_bytes_max: Count = 50 * 1024 * 1024
    """The largest attachment that is read."""
    attachment_depth_max: Whole = 8
    """How many messages a message may stand in to be read, be it forwarded or attached."""
    ocr_data_dir: Path | None = None
    """The folder of tesseract's `*.traineddata`. Unset: the usual ones are looked at. Where it is found, scans are read."""
    ocr_languages: Annotated[str, Meta(pattern=r"^\w+(\+\w+)*$")] = "eng"
    """The languages of scans, as tesseract writes them: `deu+eng`. Each needs its data."""
    ocr_pages_max: Whole = 100
    """Scanned pages of one document that are read. 0 switches text recognition off."""
    ocr_page_seconds_max: Seconds = 20.0
    """How long reading one scanned page may take."""
    ocr_seconds_max: Seconds = 300.0
    """How long reading all scanned pages of one document may take."""

    version_contents_kept: Count = 5
    """How many versions of a document keep their content, the current one included, so that they can be compared."""

    # indexing
    queue_counted_max: Count = 1000
    """How many changes ahead of a waiting document are counted; more are told as "at least"."""
    chunks_max: Count = 20_000
    """Chunks one document may have."""
    index_concurrency: Count = 6
    """Documents one indexer works on at a time, large ones aside."""
    index_niceness: Annotated[int, Meta(ge=0, le=19)] = 10
    """How much indexing, reading documents included, stands back where processors are busy (Unix niceness)."""
    index_aside_max: Count = 200
    """Large documents that may be under way, or wait for their turn, beside these."""
    index_attempts_max: Count = 5
    """How often a document is tried before it is given up as failed."""
    dead_letter_log_characters_max: Count = 10_000
    """What is kept of the log of a document that was given up; its end, which is what tells."""
    event_lease_s: Annotated[float, Meta(ge=1)] = 30.0
    """How long an event stays with a process that gives no sign of life before another gets it: what a crash costs it."""
    relay_lease_s: Annotated[float, Meta(ge=1)] = 15.0
    """The same for changes on their way to NATS; must outlast the publishing of a hundred."""
    revocation_wait_s: Annotated[float, Meta(ge=0)] = 0.5
    """How long a deletion, or a change that takes somebody's right, waits for NATS to have it before it is acknowledged."""
    outage_pause_s_max: Seconds = 15.0
    """The longest pause between two tries of a document while a part that indexing needs is away."""
    content_check_interval_s: Annotated[float, Meta(ge=1)] = 60.0
    """How often a Document Service looks whether the contents of 500 documents are there, the next ones each time."""
    reconcile_interval_s: Seconds = 3600.0
    """How often the index is compared with the documents, and mended where they differ."""
    index_small_bytes_max: Count = 1 << 20
    """The largest document that is read at once; of larger ones, one at a time."""
    index_small_chunks_max: Count = 64
    """The largest document that is embedded at once; larger ones wait for a place."""
    index_medium_chunks_max: Count = 1024
    """The largest document that waits for no large one."""
    index_lane_places: Count = 2
    """Documents of medium size embedded at a time; large ones have as many places of their own."""
    index_chunks_kept_max: Count = 20_000
    """Chunks in memory of documents that wait for a place; beyond it, a document is read again when its turn comes."""
    index_part_chunks: Count = 256
    """Chunks written at a time of a document that has more."""
    embedding_threads: Count = 1
    """Threads an indexer embeds with. One per core is best; the laptop keeps one core for people."""

    # the embedding model (unset: the packaged all-MiniLM-L6-v2). The index keeps the one it has until `refdesk reindex`
    embedding_url: str | None = None
    """Base URL of an OpenAI-compatible API that serves `/embeddings`. Needs `embedding_model`."""
    embedding_model: str | None = None
    """The model's name at that URL. Without a URL, the whole path of a folder with a model in ONNX, or `fastembed:NAME`
    ([better models](../howto/quality.md))."""
    embedding_api_key: str | None = None
    """The key that URL asks for, if it does."""
    model_dir: Path | None = None
    """Where `refdesk model prepare --into` has put the packaged model's file; it may be shared and read-only. Unset, or without
    that file where it cannot be written: `<data_dir>/models`."""
    embedding_tokens_max: Count = 512
    """How many tokens of a text that model reads."""
    embedding_previous_url: str | None = None
    """The server of the model that the index still has, while it moves to the one at `embedding_url`."""
    embedding_previous_api_key: str | None = None
    """The key that server asks for, if it does."""

    # the vector database (unset: the index is in PostgreSQL). The index stays where it is until `refdesk reindex`
    qdrant_url: str | None = None
    """A Qdrant for vectors and text of the index, such as http://qdrant:6333; its ledger stays in PostgreSQL
    ([Qdrant](../howto/qdrant.md))."""
    qdrant_api_key: str | None = None
    """The key it asks for, if it does. It must be one that may write."""
    qdrant_grpc_port: Port | None = None
    """Its gRPC port, such as 6334: faster. Unset: everything goes over HTTP."""
    qdrant_timeout_s: Annotated[float, Meta(ge=1)] = 10.0
    """How long one call to it may take."""
    qdrant_prefix: Annotated[str, Meta(pattern=r"^\w+$")] = "refdesk"
    """How the names of its collections begin. Desks that share a Qdrant need one each."""
    qdrant_shards: Count | None = None
    """Shards of a new collection. Unset: as many as Qdrant has nodes."""
    qdrant_replicas: Count = 1
    """Nodes that keep each shard of a new collection: 2 outlive the loss of one of them."""
    qdrant_on_disk: bool = False
    """Whether a new collection keeps its vectors on disk rather than in memory."""
    qdrant_quantization: Literal["scalar", "binary"] | None = None
    """How a new collection compresses vectors in memory: `scalar` to a quarter, `binary` (for models of 1,024 dimensions and
    more) to a thirty-second. Unset: not at all."""

    # the reranker (unset: passages keep the order of the search)
    rerank_url: str | None = None
    """A server that reranks (Cohere, Jina, TEI, vLLM): the address of its `/rerank`, or what stands before that."""
    rerank_model: str | None = None
    """The model's name there, if it asks for one. Without a URL, the whole path of a folder with a cross-encoder in ONNX."""
    rerank_api_key: str | None = None
    """The key that server asks for, if it does."""
    rerank_passages_max: Count = 30
    """How many of the best passages it reads."""
    rerank_timeout_s: Annotated[float, Meta(gt=0)] = 2.0
    """How long a question waits for it; after that, passages keep the order of the search."""

    # the language model (unset: answers are quoted from the documents)
    llm_url: str | None = None
    """Base URL of an OpenAI-compatible API, such as http://127.0.0.1:11434/v1. `user:password@` and a query are kept; HTTP_PROXY,
    HTTPS_PROXY and NO_PROXY count, save for this machine."""
    llm_model: str | None = None
    """The model's name at that URL; several separated by commas are tried in that order."""
    llm_api_key: str | None = None
    """The key that URL asks for, if it does."""
    llm_context_tokens_max: Count = 8192
    """The model's window: prompt, passages and answer together."""
    llm_tokenizer: str | None = None
    """The model's `tokenizer.json`, to count its tokens exactly; several separated by commas, in the order of `llm_model`.
    A model without one is counted by an upper estimate."""
    llm_temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    """0 writes the most likely words; higher varies them."""
    llm_connect_timeout_s: Seconds = 3.0
    """How long connecting to the model may take."""
    llm_first_token_timeout_s: Seconds = 10.0
    """How long the model may take to begin."""
    llm_cold_first_token_timeout_s: Seconds = 60.0
    """The same for a model that was not heard for four minutes, and may have to be loaded first."""
    llm_between_tokens_timeout_s: Seconds = 10.0
    """How long the model may pause."""
    llm_total_timeout_s: Seconds = 120.0
    """How long a whole answer may take."""
    llm_thinking_tokens_max: Whole = 4096
    """How many tokens the model may think before and in an answer, beside the answer's own."""
    llm_failures_max: Count = 5
    """After so many failures in a row a model is left alone for a while."""
    llm_cool_down_s: Seconds = 10.0
    """For so long; then one call tries it."""

    # answers
    question_tokens_max: Count = 500
    """The longest question."""
    output_tokens_max: Count = 1024
    """The most a request may ask for."""
    output_tokens_default: Count = 512
    """The longest answer when a request does not say."""
    certainty_min: Annotated[float, Meta(ge=0, le=1)] = 0.32
    """How probable it must be that quotes answer the question; below it they are shown as the closest passages."""
    follow_up_rewrite_s: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds a language model may take to write a follow-up ("And in winter?") out in full, before it is searched for.
    0: no model is asked, and what is found tells what it leans on."""
    passages_max: Count = 8
    """Passages a language model reads for an answer."""
    wait_seconds_max: Seconds = 30.0
    """The longest `wait_seconds` a question may ask for."""

    # OpenAI's format and MCP
    sources_in_text: bool = True
    """Whether an answer at `/v1` ends with a readable list of its sources; `annotations` name them in any case."""
    history_turns_max: Whole = 6
    """Earlier questions with their answers that are read of a chat, the newest; older ones are passed over."""
    history_characters_max: Count = 2000
    """What is read of each of their messages."""
    style_characters_max: Count = 4000
    """System and developer messages together; they are wishes of style and no more."""
    embedding_texts_max: Count = 2048
    """Texts of one call to `/v1/embeddings`. Each counts as a search."""
    embedding_body_bytes_max: Count = 4 << 20
    """The largest body of such a call."""
    concurrent_embeddings_max: Count = 2
    """Such calls that one process works on at a time; others wait as searches do."""

    # lines and budgets
    concurrent_retrievals_max: Count = 8
    """Searches one process does at a time, each on a connection of its own to the index."""
    waiting_retrievals_max: Whole = 256
    """Searches that may wait for their turn, per process; equal questions wait for one. In a full line there is still room for an
    equal share of each principal."""
    retrieval_wait_s_max: Seconds = 10.0
    """How long they may wait."""
    concurrent_answers_max: Count = 16
    """Answers one process lets the model write at a time."""
    answers_kept_free: Whole = 2
    """Of these, the last are kept for principals who have no answer under way; a quarter at most."""
    waiting_max: Whole = 16
    """Questions in line for the model, per process. In a full line there is still room for an equal share of each principal."""
    waiting_per_principal_max: Whole = 16
    """Questions of one principal in line."""
    waiting_for_documents_per_principal_max: Count = 16
    """Questions and searches of one principal that may wait for a document (`after`) at a time, per process."""
    waiting_principals_max: Count = 500
    """Principals who may wait at a time, per process: for the model, and for a search."""
    concurrent_per_principal_max: Count = 64
    """Answers one principal may have under way."""
    requests_per_minute_max: Count = 3000
    """Questions one principal may ask in a minute."""
    searches_per_minute_max: Count = 3000
    """Searches and documents as they were indexed that one principal may ask for in a minute."""
    tokens_per_minute_max: Count = 2_000_000
    """Tokens, in and out, one principal may use in a minute."""
    tokens_per_day_max: Count = 100_000_000
    """Tokens, in and out, one principal may use in a day (UTC)."""

    # keeping answers
    disconnect_grace_s: Seconds = 0.5
    """How long an answer whose readers have all left goes on, in case one comes back."""
    conversation_grace_s: Seconds = 20.0
    """The same for an answer in a conversation: whoever reloads the page, or takes up another device, finds it again."""
    similarity_min: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Set it (0.95, say) to reuse answers to similar questions on the same passages. Unset: only to the same question."""
    answer_retention_s: Count = 24 * 3600
    """How long an answer can be resumed, and re-read if it belongs to no conversation."""
    conversations_kept: bool = True
    """Whether questions asked in a conversation are kept, with their answers, for whoever asked them. False keeps no new ones."""
    conversation_retention_s: Count = 180 * 24 * 3600
    """How long they are kept."""
    conversation_turns_max: Count = 200
    """Questions of one conversation that are kept; the oldest go."""
    conversation_answers_unwritten_max: Count = 2000
    """Answers of conversations that one process may have waiting to be written; others are written a little later."""
    conversation_sweep_s: Annotated[float, Meta(gt=0)] = 60.0
    """How often all kept answers are compared with the documents, so that those on deleted ones are erased."""
    truth_timeout_s: Seconds = 0.5
    """How long an answer waits for the Document Service's word on its passages before it looks at the record of changes."""

    @property
    def content_path(self) -> Path:
        return (self.content_dir or self.data_dir / "content").expanduser()

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """Where the packaged model's file may be, the first first."""
        own = self.data_dir / "models"
        return (own,) if self.model_dir is None else (self.model_dir.expanduser(), own)
