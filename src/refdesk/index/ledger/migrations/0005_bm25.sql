-- What one entry of a posting adds to the BM25 score of its chunk (index/ranking.py). `entry`: see the table. The planner inlines it.
CREATE FUNCTION bm25(weight float8, entry integer, floor float8, slope float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS $bm25$
    SELECT weight * (entry >> 16 & 255) / ((entry >> 16 & 255) + floor + slope * (entry & 65535))
$bm25$;
