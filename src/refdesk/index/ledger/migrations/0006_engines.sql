-- A generation's vectors and text may be kept by another engine than this database. The ledger of each generation stays here:
-- which document is at which version, with which readers. `token` tells a desk's own collections from those of others.
ALTER TABLE generations
    ADD COLUMN engine text NOT NULL DEFAULT 'pgvector' CHECK (engine IN ('pgvector', 'qdrant')),
    ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE generations DROP CONSTRAINT generations_model_dimensions_chunking_text_search_key;
ALTER TABLE generations ADD UNIQUE (engine, model, dimensions, chunking, text_search);

-- Creates a generation's schema with nothing but the ledger, for an engine elsewhere.
CREATE FUNCTION create_ledger(generation integer) RETURNS void LANGUAGE plpgsql AS $create$
BEGIN
    EXECUTE format('CREATE SCHEMA %I', 'generation_' || generation);
    PERFORM set_config('search_path', 'generation_' || generation || ', ' || current_setting('search_path'), true);

    -- As in the generations of pgvector. `revision` names the points that are searchable (null: none), `outline` what they were
    -- made of.
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
        applied_at timestamptz NOT NULL DEFAULT now(),
        revision bigint UNIQUE,
        outline bytea
    );
    CREATE INDEX documents_readers ON documents USING gin (readers);
    CREATE INDEX documents_tags ON documents USING gin (tags);

    -- Revisions that are not searchable: those being written, and past ones whose points are still to be deleted. They are known
    -- here before their first point is written, so that a crash leaves nothing that nobody knows of.
    CREATE TABLE revisions (
        revision bigint PRIMARY KEY,
        document_key bigint NOT NULL REFERENCES documents,
        past boolean NOT NULL,
        since timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX revisions_since ON revisions (past, since);
    CREATE INDEX revisions_document ON revisions (document_key);

    -- Vectors of coming versions, at half precision, ahead of their points.
    CREATE TABLE staged (
        document_key bigint NOT NULL REFERENCES documents,
        hash bytea NOT NULL,
        vector bytea NOT NULL,
        PRIMARY KEY (document_key, hash)
    );

    -- How many chunks of each document have a term: what tells how rare it is, and what a misspelt one was meant to be.
    CREATE TABLE document_terms (
        document_key bigint NOT NULL,
        term text COLLATE "C" NOT NULL,
        chunks integer NOT NULL
    ) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
    CREATE INDEX document_terms_term ON document_terms (term) INCLUDE (chunks);
    CREATE INDEX document_terms_document ON document_terms (document_key);

    CREATE TABLE tallies (
        slot integer PRIMARY KEY,
        documents bigint NOT NULL DEFAULT 0,
        chunks bigint NOT NULL DEFAULT 0,
        terms bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50);
    INSERT INTO tallies (slot) SELECT generate_series(0, 63);

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

-- What the active generation has and another one lacks, as `documents_behind`, but in the order of document ids.
CREATE FUNCTION documents_lacking(generation integer, active integer, after text, documents_max integer)
RETURNS TABLE (document_id text, version bigint, removed boolean) LANGUAGE plpgsql STABLE AS $lacking$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT a.document_id, a.version, a.removed FROM %I.documents a
         WHERE a.document_id > $1 AND a.version >= 0
           AND NOT EXISTS (SELECT FROM %I.documents b WHERE b.document_id = a.document_id AND b.version >= a.version)
           AND NOT EXISTS (SELECT FROM generation_gaps g
                           WHERE g.generation = $2 AND g.document_id = a.document_id AND g.version >= a.version)
         ORDER BY a.document_id LIMIT $3',
        'generation_' || active, 'generation_' || generation)
    USING after, generation, documents_max;
END
$lacking$;
