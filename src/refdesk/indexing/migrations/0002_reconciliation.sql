-- When the last comparison of the index with the documents began, so that many processes make one schedule.
CREATE TABLE reconciliation (
    single boolean PRIMARY KEY CHECK (single),
    begun_at timestamptz NOT NULL
);
