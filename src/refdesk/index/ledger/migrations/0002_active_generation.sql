-- One generation is searched: the active one. Another may stand beside it: being built, ready, or kept to return to. It
-- follows the active one, document by document. `embedding_url` and `tokens_max` say where its model is served (null: the
-- packaged one); `problem` is why building it does not get on; until `draining_until`, changes wait so that it can catch up.
ALTER TABLE generations
    ADD COLUMN embedding_url text,
    ADD COLUMN tokens_max integer,
    ADD COLUMN active boolean NOT NULL DEFAULT false,
    ADD COLUMN problem text,
    ADD COLUMN draining_until timestamptz NOT NULL DEFAULT '-infinity';

UPDATE generations SET active = true WHERE id = (SELECT min(id) FROM generations);
CREATE UNIQUE INDEX generations_active ON generations (active) WHERE active;

-- Versions that a generation cannot hold although the active one does, and why.
CREATE TABLE generation_gaps (
    generation integer NOT NULL REFERENCES generations ON DELETE CASCADE,
    document_id text NOT NULL,
    version bigint NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (generation, document_id)
);

-- What the active generation has and another one lacks, known gaps and what is only staged left out, in the order of the active one's keys.
CREATE FUNCTION documents_behind(generation integer, active integer, after bigint, documents_max integer)
RETURNS TABLE (key bigint, document_id text, version bigint, removed boolean) LANGUAGE plpgsql STABLE AS $behind$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT a.key, a.document_id, a.version, a.removed FROM %I.documents a
         WHERE a.key > $1 AND a.version >= 0
           AND NOT EXISTS (SELECT FROM %I.documents b WHERE b.document_id = a.document_id AND b.version >= a.version)
           AND NOT EXISTS (SELECT FROM generation_gaps g
                           WHERE g.generation = $2 AND g.document_id = a.document_id AND g.version >= a.version)
         ORDER BY a.key LIMIT $3',
        'generation_' || active, 'generation_' || generation)
    USING after, generation, documents_max;
END
$behind$;

CREATE FUNCTION drop_generation(generation integer) RETURNS void LANGUAGE plpgsql AS $drop$
BEGIN
    EXECUTE format('DROP SCHEMA %I CASCADE', 'generation_' || generation);
    DELETE FROM generations WHERE id = generation;
END
$drop$;
