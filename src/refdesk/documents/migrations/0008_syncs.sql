-- What syncs have told of themselves. Ids sort by the time they began.

CREATE TABLE syncs (
    id              text PRIMARY KEY,
    owner           text NOT NULL,                          -- whose documents they are
    source          text NOT NULL,                          -- what their external ids begin with
    started_by      text NOT NULL,
    started_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    heard_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished        boolean NOT NULL DEFAULT false,
    problem         text NOT NULL DEFAULT '',
    counts          jsonb NOT NULL DEFAULT '{}',
    entries         jsonb NOT NULL DEFAULT '[]',
    entries_left_off integer NOT NULL DEFAULT 0
);
CREATE INDEX syncs_source ON syncs (owner, source, id DESC);
