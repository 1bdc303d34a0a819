-- The Document Service's tables. A document's row is its current version; a deleted document stays as a tombstone,
-- hidden from every read, so that its deletion can be told again.

CREATE TABLE documents (
    id              text PRIMARY KEY,
    version         bigint NOT NULL,
    title           text NOT NULL,
    media_type      text NOT NULL,
    content_sha256  text,                                   -- NULL in a tombstone
    content_bytes   bigint NOT NULL,
    readers         text[] NOT NULL,
    tags            text[] NOT NULL,
    external_id     text,
    filename        text,
    url             text,
    owner           text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at      timestamptz,

    -- How far the index has come. `failed` is about the current version; `pending_since` is when the oldest change that
    -- is not searchable yet was made.
    indexed_version bigint,
    failed          boolean NOT NULL DEFAULT false,
    attempts        integer NOT NULL DEFAULT 0,
    failure         text,
    pending_since   timestamptz,

    -- Whom a scope must meet to read: the readers, and always the owner.
    audience        text[] GENERATED ALWAYS AS (readers || ('principal:' || owner)) STORED,
    state           text GENERATED ALWAYS AS (
        CASE WHEN indexed_version = version THEN 'indexed' WHEN failed THEN 'failed' ELSE 'pending' END
    ) STORED
);

CREATE INDEX documents_live ON documents (id) WHERE deleted_at IS NULL;
CREATE INDEX documents_audience ON documents USING gin (audience) WHERE deleted_at IS NULL;
CREATE INDEX documents_tags ON documents USING gin (tags) WHERE deleted_at IS NULL;
CREATE INDEX documents_state ON documents (state, id) WHERE deleted_at IS NULL;
CREATE INDEX documents_pending ON documents (pending_since, id) WHERE state = 'pending';
CREATE INDEX documents_content ON documents (content_sha256) WHERE content_sha256 IS NOT NULL;
CREATE UNIQUE INDEX documents_external_id ON documents (external_id, owner)
    WHERE deleted_at IS NULL AND external_id IS NOT NULL;

-- What readers are shown of a live document. Every read goes through this view: deleted documents are not in it.
-- (No volatile function in it: that would keep the planner from looking inside.)
CREATE VIEW current_documents AS
SELECT id, version, title, media_type, content_sha256, content_bytes, readers, tags, external_id, filename, url, owner,
       created_at, updated_at, state, indexed_version, attempts, failure, audience,
       CASE WHEN state = 'pending'
            THEN greatest(0, extract(epoch FROM statement_timestamp() - pending_since))::float8 END AS lag_seconds,
       id || '@' || version AS freshness_token
FROM documents
WHERE deleted_at IS NULL;

CREATE TABLE document_versions (
    document_id     text NOT NULL REFERENCES documents (id),
    version         bigint NOT NULL,
    change          text NOT NULL CHECK (change IN ('created', 'replaced', 'deleted')),
    title           text NOT NULL,
    media_type      text NOT NULL,
    content_sha256  text NOT NULL,
    content_bytes   bigint NOT NULL,
    readers         text[] NOT NULL,
    changed_by      text NOT NULL,
    occurred_at     timestamptz NOT NULL,
    PRIMARY KEY (document_id, version)
);

-- Events on their way to the broker. A row is written in the transaction of the change it tells of and is published by
-- its own state, never by its position: ids and times are not in commit order.
CREATE TABLE outbox (
    id              text PRIMARY KEY,
    document_id     text NOT NULL,
    version         bigint NOT NULL,
    subject         text NOT NULL,
    payload         bytea NOT NULL,
    traceparent     text,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_until   timestamptz,
    published_at    timestamptz
);

CREATE INDEX outbox_pending ON outbox (id) WHERE published_at IS NULL;
CREATE INDEX outbox_document ON outbox (document_id, version);

-- What the relay last saw of the broker's stream, to notice that the broker has lost it.
CREATE TABLE broker_memory (
    stream          text PRIMARY KEY,
    created_at      timestamptz NOT NULL,
    last_sequence   bigint NOT NULL,
    seen_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
