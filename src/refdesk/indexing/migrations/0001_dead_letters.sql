-- Failures of indexing: what is being tried again (final = false) and what was given up (final = true, a dead letter).
-- One row per document version, or per payload where the payload names none: `letter_key` is the same for every
-- delivery of the same work.
CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    letter_key text NOT NULL UNIQUE,
    event_id text,
    subject text NOT NULL,
    payload bytea NOT NULL,
    document_id text,
    version bigint,
    reason text NOT NULL,
    code text NOT NULL,
    attempts integer NOT NULL,
    final boolean NOT NULL,
    first_failed_at timestamptz NOT NULL DEFAULT now(),
    last_failed_at timestamptz NOT NULL DEFAULT now(),
    replayed_at timestamptz,
    discarded_at timestamptz
);

-- The listing, newest first; also answers how many there are.
CREATE INDEX dead_letters_open ON dead_letters (id DESC)
    WHERE final AND replayed_at IS NULL AND discarded_at IS NULL;

-- Forgetting what a later success made moot.
CREATE INDEX dead_letters_document ON dead_letters (document_id, version);
