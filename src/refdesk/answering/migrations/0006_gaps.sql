-- Questions that the documents did not answer, those that are alike together. The words are their askers'; they are kept for a time.
CREATE TABLE gaps (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model           text NOT NULL,                          -- that embedded the questions
    centre          bytea NOT NULL,                         -- their mean, float32
    questions       bigint NOT NULL,
    question        text NOT NULL,                          -- the first of them
    first_at        timestamptz NOT NULL,
    last_at         timestamptz NOT NULL,
    answered_by     text,                                   -- a document that became searchable since
    answered_at     timestamptz,
    dismissed_at    timestamptz
);

CREATE INDEX gaps_by_size ON gaps (questions DESC, id);

CREATE TABLE gap_questions (
    name       text PRIMARY KEY,
    gap_id          bigint NOT NULL REFERENCES gaps (id) ON DELETE CASCADE,
    principal_id    text NOT NULL,
    question        text NOT NULL,
    reason          text NOT NULL,
    asked_at        timestamptz NOT NULL,
    seen_at         timestamptz                             -- when its asker put the notice away
);

CREATE INDEX gap_questions_of_gap ON gap_questions (gap_id, asked_at);
CREATE INDEX gap_questions_of_principal ON gap_questions (principal_id, gap_id);
