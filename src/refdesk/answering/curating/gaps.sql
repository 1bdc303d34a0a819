-- name: lock
-- One process at a time puts questions into gaps.
SELECT pg_advisory_xact_lock(hashtextextended('refdesk.gaps', 0))

-- name: centres
-- Index: gaps_pkey. Of one model, at most as many as are kept.
SELECT id, centre, questions FROM gaps WHERE model = %(model)s ORDER BY id LIMIT %(count)s

-- name: known
-- Index: gap_questions_pkey.
SELECT name FROM gap_questions WHERE name = ANY (%(names)s) LIMIT cardinality(%(names)s::text[])

-- name: add_gap
INSERT INTO gaps (model, centre, questions, question, first_at, last_at)
VALUES (%(model)s, %(centre)s, 1, %(question)s, %(at)s, %(at)s) RETURNING id

-- name: grow_gap
-- A question that is asked again in vain opens it again.
UPDATE gaps SET centre = %(centre)s, questions = questions + 1, last_at = greatest(last_at, %(at)s), answered_by = NULL, answered_at = NULL
WHERE id = %(id)s

-- name: add_question
INSERT INTO gap_questions (name, gap_id, principal_id, question, reason, asked_at, groups, documents)
VALUES (%(name)s, %(id)s, %(principal_id)s, %(question)s, %(reason)s, %(at)s, %(groups)s, %(documents)s) ON CONFLICT (name) DO NOTHING

-- name: erase
-- Questions about deleted documents, and that one of these may answer a gap. Index: gap_questions_documents; gaps is bounded.
WITH gone AS (
    DELETE FROM gap_questions WHERE documents && %(document_ids)s::text[] RETURNING gap_id
), opened AS (
    UPDATE gaps SET answered_by = NULL, answered_at = NULL WHERE answered_by = ANY (%(document_ids)s) RETURNING id
)
SELECT DISTINCT gap_id FROM gone

-- name: speak_anew
-- Of gaps that have lost questions, those that are left speak for them. Index: gap_questions_of_gap.
UPDATE gaps g SET questions = left_over.count, question = left_over.question
FROM (SELECT gap_id, count(*), (array_agg(question ORDER BY asked_at))[1] AS question
      FROM gap_questions WHERE gap_id = ANY (%(ids)s) GROUP BY gap_id) AS left_over
WHERE g.id = left_over.gap_id

-- name: drop_empty
DELETE FROM gaps g WHERE g.id = ANY (%(ids)s) AND NOT EXISTS (SELECT FROM gap_questions q WHERE q.gap_id = g.id)

-- name: open
-- Those asked last; index: gaps_pkey, of a bounded table.
SELECT id, question FROM gaps WHERE answered_at IS NULL AND dismissed_at IS NULL ORDER BY last_at DESC LIMIT %(count)s

-- name: answer
UPDATE gaps SET answered_by = %(document_id)s, answered_at = now() WHERE id = %(id)s AND answered_at IS NULL

-- name: dismiss
UPDATE gaps SET dismissed_at = now() WHERE id = %(id)s AND dismissed_at IS NULL RETURNING id

-- name: page
-- The largest first, as far as their questions may be read. Index: gap_questions_of_gap for each; gaps is bounded.
SELECT g.id, seen.question, seen.questions, seen.askers, seen.first_at, seen.last_at,
       CASE WHEN %(everything)s THEN g.answered_by END, g.answered_at
FROM gaps g
CROSS JOIN LATERAL (
    SELECT count(*) AS questions, count(DISTINCT q.principal_id) AS askers, min(q.asked_at) AS first_at, max(q.asked_at) AS last_at,
           (array_agg(q.question ORDER BY q.asked_at))[1] AS question
    FROM gap_questions q WHERE q.gap_id = g.id AND (%(everything)s OR q.groups && %(groups)s::text[])
) AS seen
WHERE g.dismissed_at IS NULL AND seen.questions > 0
  AND (%(state)s = 'all' OR (g.answered_at IS NULL) = (%(state)s = 'open'))
  AND (%(after_size)s::bigint IS NULL OR (-seen.questions, g.id) > (-%(after_size)s::bigint, %(after_id)s::bigint))
ORDER BY seen.questions DESC, g.id LIMIT %(count)s

-- name: questions_of
-- The newest first, those that may be read. Index: gap_questions_of_gap.
SELECT question, reason, asked_at FROM gap_questions
WHERE gap_id = %(id)s AND (%(everything)s OR groups && %(groups)s::text[]) ORDER BY asked_at DESC LIMIT %(count)s

-- name: mine
-- Those of one asker that a document may answer by now. Index: gap_questions_of_principal.
SELECT DISTINCT ON (g.id) g.id, q.question, g.answered_by, g.answered_at
FROM gap_questions q JOIN gaps g ON g.id = q.gap_id
WHERE q.principal_id = %(principal_id)s AND q.seen_at IS NULL AND g.answered_at IS NOT NULL AND g.dismissed_at IS NULL
ORDER BY g.id, q.asked_at DESC LIMIT %(count)s

-- name: see
-- Index: gap_questions_of_principal.
UPDATE gap_questions SET seen_at = now() WHERE gap_id = %(id)s AND principal_id = %(principal_id)s AND seen_at IS NULL RETURNING gap_id

-- name: counts
SELECT count(*) FILTER (WHERE answered_at IS NULL), count(*) FILTER (WHERE answered_at IS NOT NULL) FROM gaps WHERE dismissed_at IS NULL

-- name: forget_questions
DELETE FROM gap_questions WHERE asked_at < now() - make_interval(days => %(days)s)

-- name: forget_gaps
-- Those without a question left, and the oldest beyond what is kept.
DELETE FROM gaps g
WHERE NOT EXISTS (SELECT FROM gap_questions q WHERE q.gap_id = g.id)
   OR g.id IN (SELECT id FROM gaps ORDER BY last_at DESC, id DESC OFFSET %(gaps_max)s)
