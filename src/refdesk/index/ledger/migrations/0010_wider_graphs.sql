-- Each vector looks for its neighbours somewhat further than pgvector does by itself (ef_construction 64): searches find more, and a
-- write costs more (docs/adr/0063). Of a graph that stands, this is true of vectors that come from now on.

CREATE FUNCTION widen_graph(generation integer) RETURNS void LANGUAGE plpgsql AS $widen$
BEGIN
    EXECUTE format('ALTER INDEX %I.vectors_embedding SET (ef_construction = 80)', 'generation_' || generation);
END
$widen$;

SELECT widen_graph(id) FROM generations WHERE engine = 'pgvector';

CREATE OR REPLACE FUNCTION create_generation(generation integer, dimensions integer) RETURNS void LANGUAGE plpgsql AS $create$
BEGIN
    PERFORM create_generation_tables(generation, dimensions);
    PERFORM add_reading_notes(generation);
    PERFORM add_sources_and_days(generation);
    PERFORM widen_graph(generation);
END
$create$;
