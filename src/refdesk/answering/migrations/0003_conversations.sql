-- What somebody has asked in conversations, and the answers with their evidence as it stood. A conversation that was deleted
-- leaves a row without words for a while, so that an answer which is still being written does not bring it back.
CREATE TABLE conversations (
    principal_id text NOT NULL,
    id text NOT NULL,
    title text NOT NULL,
    renamed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (principal_id, id)
);

CREATE INDEX conversations_by_time ON conversations (principal_id, updated_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX conversations_by_age ON conversations (updated_at);

-- `conversation_id` is null for an answer that was shared and belongs to no conversation. `answer` is null where nothing was
-- said, and once it was erased.
CREATE TABLE kept_answers (
    answer_id text PRIMARY KEY,
    principal_id text NOT NULL,
    conversation_id text,
    asked_at timestamptz NOT NULL,
    question text NOT NULL,
    read_as text NOT NULL DEFAULT '',
    answer text,
    erased boolean NOT NULL DEFAULT false,
    shared_at timestamptz,
    FOREIGN KEY (principal_id, conversation_id) REFERENCES conversations (principal_id, id) ON DELETE CASCADE
);

CREATE INDEX kept_answers_by_conversation ON kept_answers (principal_id, conversation_id, answer_id);
CREATE INDEX kept_answers_by_age ON kept_answers (asked_at);

-- Which documents an answer stands on: it is erased with any of them.
CREATE TABLE kept_evidence (
    document_id text NOT NULL,
    answer_id text NOT NULL REFERENCES kept_answers ON DELETE CASCADE,
    PRIMARY KEY (document_id, answer_id)
);

CREATE INDEX kept_evidence_by_answer ON kept_evidence (answer_id);
