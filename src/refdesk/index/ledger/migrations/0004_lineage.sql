-- What the index side remembers of the past that it shares with the documents and the broker, so that it notices when one of them
-- was restored from a backup (docs/adr/0026): how far its recorder has come on the stream, and the newest change it has heard of.
CREATE TABLE lineage (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    stream_created_at timestamptz,
    recorded bigint NOT NULL DEFAULT 0,
    notes bigint NOT NULL DEFAULT 0,
    newest_id text,
    newest_version bigint,
    newest_content text,        -- NULL: a deletion
    newest_at timestamptz,
    doubt text CHECK (doubt IN ('restored', 'rewound', 'foreign'))
);
INSERT INTO lineage DEFAULT VALUES;
