-- The generations of the index, and which of them is searched.

-- name: hold_roles
-- Before `enter`, so that what it reads stays true until the change is committed: a swap waits for this lock.
SELECT pg_advisory_xact_lock_shared(hashtextextended('refdesk.changes', 0))

-- name: enter
-- For this transaction: the generation's schema, and plans made for the values at hand, since the scope decides them. The
-- lock keeps the schema from being dropped. The last two say whether the generation is active (null: it is gone), and
-- whether its changes have to wait: never longer than `DRAIN_S` allows, should the clock be set back meanwhile.
SELECT set_config('search_path', %(schema)s || ', ' || current_setting('search_path'), true),
       set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('jit', 'off', true),
       pg_advisory_xact_lock_shared(hashtext('refdesk.generation'), %(id)s),
       (SELECT g.active FROM generations g WHERE g.id = %(id)s),
       (SELECT g.draining_until BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 minute' FROM generations g WHERE g.id = %(id)s)

-- name: lock_generations
-- Whoever creates, swaps or drops a generation does so alone.
SELECT pg_advisory_xact_lock(hashtextextended('refdesk.generations', 0))

-- name: wait_shortly
-- A change under way may be a large one: rather give up than make all others wait for it.
SELECT set_config('lock_timeout', %(lock_timeout_ms)s::text, true)

-- name: lock_changes
-- Waits for the changes to documents that are under way, and keeps new ones waiting (`hold_roles`). Searches go on.
SELECT pg_advisory_xact_lock(hashtextextended('refdesk.changes', 0))

-- name: lock_use
-- Waits for whoever reads this generation now (`enter`).
SELECT pg_advisory_xact_lock(hashtext('refdesk.generation'), %(id)s)

-- name: extension_version
SELECT extversion FROM pg_extension WHERE extname = 'vector'

-- name: text_search_exists
SELECT EXISTS (SELECT FROM pg_ts_config WHERE cfgname = %(text_search)s AND pg_ts_config_is_visible(oid))

-- name: find_generation
-- Index: the table's unique key.
SELECT id, token::text, embedding_url, tokens_max FROM generations
WHERE (engine, model, dimensions, chunking, text_search)
      = (%(engine)s, %(model)s, %(dimensions)s, %(chunking)s, %(text_search)s)

-- name: tokens
SELECT id, token::text FROM generations WHERE engine = %(engine)s ORDER BY id LIMIT 100

-- name: add_generation
-- The first one is active.
INSERT INTO generations (engine, model, dimensions, chunking, text_search, embedding_url, tokens_max, active)
VALUES (%(engine)s, %(model)s, %(dimensions)s, %(chunking)s, %(text_search)s, %(url)s, %(tokens_max)s,
        NOT EXISTS (SELECT FROM generations))
RETURNING id, token::text

-- name: create_generation
SELECT create_generation(%(generation)s::integer, %(dimensions)s::integer)

-- name: create_ledger
-- For an engine elsewhere.
SELECT create_ledger(%(generation)s::integer)

-- name: live
-- Two rows, hardly ever more: the active one first.
SELECT id, engine, token::text, model, dimensions, chunking, text_search, embedding_url AS url, tokens_max, active, created_at, problem
FROM generations ORDER BY active DESC, id LIMIT 10

-- name: behind
-- A page of what the active generation has and this one lacks. Index: the documents_document_id_key of both.
SELECT b.document_id, b.version, b.removed
FROM documents_lacking(%(id)s::integer, (SELECT id FROM generations WHERE active), %(after)s, %(count)s::integer) b

-- name: count_behind
-- Counts at most `count`.
SELECT count(*)
FROM documents_lacking(%(id)s::integer, (SELECT id FROM generations WHERE active), '', %(count)s::integer)

-- name: gaps
-- Index: generation_gaps_pkey.
SELECT document_id, version, reason FROM generation_gaps
WHERE generation = %(id)s ORDER BY document_id LIMIT %(count)s

-- name: count_gaps
SELECT count(*) FROM generation_gaps WHERE generation = %(id)s

-- name: add_gap
-- Nothing when the generation was dropped meanwhile.
INSERT INTO generation_gaps (generation, document_id, version, reason)
SELECT id, %(document_id)s, %(version)s, %(reason)s FROM generations WHERE id = %(id)s
ON CONFLICT (generation, document_id) DO UPDATE SET version = excluded.version, reason = excluded.reason

-- name: forget_gap
DELETE FROM generation_gaps WHERE generation = %(id)s AND document_id = %(document_id)s

-- name: forget_gaps
DELETE FROM generation_gaps WHERE generation = %(id)s

-- name: say_problem
UPDATE generations SET problem = %(problem)s WHERE id = %(id)s AND problem IS DISTINCT FROM %(problem)s

-- name: drain
UPDATE generations SET draining_until = clock_timestamp() + make_interval(secs => %(seconds)s) WHERE active

-- name: draining
SELECT EXISTS (
    SELECT FROM generations WHERE draining_until BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 minute'
)

-- name: deactivate
UPDATE generations SET active = false, draining_until = '-infinity' WHERE active

-- name: activate
UPDATE generations SET active = true, draining_until = '-infinity', problem = NULL WHERE id = %(id)s

-- name: drop_generation
SELECT drop_generation(%(id)s::integer)
