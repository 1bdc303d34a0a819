-- The newest known standing of every document whose newest change the index does not show yet (docs/adr/0025). Written by a
-- consumer of the documents' events that does nothing else, so that no backlog of the indexer's delays it.
CREATE TABLE standings (
    document_id text PRIMARY KEY,
    version bigint NOT NULL,
    deleted boolean NOT NULL,
    readers text[] NOT NULL,
    occurred_at timestamptz NOT NULL
);
