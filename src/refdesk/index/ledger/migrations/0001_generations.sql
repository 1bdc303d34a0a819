-- The index lives in generations: one schema each, named generation_<id>, so that a second one can be built beside the
-- first and the old one dropped in one stroke. Everything that makes two indexes incomparable is a generation's key.

CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE generations (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
    chunking text NOT NULL,
    text_search text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (model, dimensions, chunking, text_search)
);

-- Creates a generation's schema. Static DDL resolves its names when it runs, hence the search path; only the number of
-- dimensions has to be spelled into the statement.
CREATE FUNCTION create_generation(generation integer, dimensions integer) RETURNS void LANGUAGE plpgsql AS $create$
BEGIN
    EXECUTE format('CREATE SCHEMA %I', 'generation_' || generation);
    PERFORM set_config('search_path', 'generation_' || generation || ', ' || current_setting('search_path'), true);

    -- A row per document that was ever seen. A removed one stays as a tombstone: its version, no readers, no chunks.
    -- `chunks` and `terms` (the sum of the chunks' lengths in terms) are what the tallies hold for this document.
    CREATE TABLE documents (
        key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        document_id text NOT NULL UNIQUE,
        version bigint NOT NULL,
        removed boolean NOT NULL DEFAULT false,
        title text NOT NULL DEFAULT '',
        readers text[] NOT NULL DEFAULT '{}',
        tags text[] NOT NULL DEFAULT '{}',
        media_type text NOT NULL DEFAULT '',
        url text,
        content_sha256 text NOT NULL DEFAULT '',
        chunks integer NOT NULL DEFAULT 0,
        terms bigint NOT NULL DEFAULT 0,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX documents_readers ON documents USING gin (readers);
    CREATE INDEX documents_tags ON documents USING gin (tags);

    -- Apart from the chunks, so that text which only moved within its document keeps its place in the HNSW graph, and
    -- so that an exact scan reads vectors and nothing else.
    CREATE TABLE vectors (
        document_key bigint NOT NULL REFERENCES documents,
        hash bytea NOT NULL,
        PRIMARY KEY (document_key, hash)
    );
    EXECUTE format('ALTER TABLE vectors ADD COLUMN embedding halfvec(%s) NOT NULL', dimensions);
    CREATE INDEX vectors_embedding ON vectors USING hnsw (embedding halfvec_ip_ops);

    CREATE TABLE chunks (
        document_key bigint NOT NULL REFERENCES documents,
        ordinal integer NOT NULL,
        hash bytea NOT NULL,
        text text NOT NULL,
        heading text,
        page integer,
        start_offset integer NOT NULL,
        end_offset integer NOT NULL,
        PRIMARY KEY (document_key, ordinal)
    );
    CREATE INDEX chunks_hash ON chunks (document_key, hash);

    -- The inverted index: for a term and a block of 64 chunks of a document, an entry per chunk that has the term:
    -- ordinal within the block (6 bits), how often (8 bits), length of the chunk in terms (16 bits).
    -- All of a term's postings lie side by side in the covering index; the table itself is hardly ever read.
    CREATE TABLE postings (
        document_key bigint NOT NULL,
        block integer NOT NULL,
        term text COLLATE "C" NOT NULL,
        entries integer[] NOT NULL
    ) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
    CREATE INDEX postings_term ON postings (term, document_key, block) INCLUDE (entries);
    CREATE INDEX postings_document ON postings (document_key);

    -- Sizes of the whole index, spread over rows so that indexers do not queue for one.
    CREATE TABLE tallies (
        slot integer PRIMARY KEY,
        documents bigint NOT NULL DEFAULT 0,
        chunks bigint NOT NULL DEFAULT 0,
        terms bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50);
    INSERT INTO tallies (slot) SELECT generate_series(0, 63);

    -- Access control, in one place: every search arm reads documents through this function, which the planner inlines.
    CREATE FUNCTION readable(everything boolean, scope text[], only_ids text[], only_tags text[])
    RETURNS SETOF documents LANGUAGE sql STABLE AS $readable$
        SELECT d.* FROM documents d
        WHERE (everything OR d.readers && scope)
          AND (only_ids IS NULL OR d.document_id = ANY (only_ids))
          AND (only_tags IS NULL OR d.tags @> only_tags)
          AND NOT d.removed
    $readable$;
END
$create$;
