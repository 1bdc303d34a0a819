-- Conversations and the answers in them. Whoever asks for any of it names whose it is.

-- name: keep
-- Once, however often it is said. An answer whose conversation was deleted since the question, or whose turn was dropped, is
-- not kept. The oldest answers of a long conversation go. Index: conversations_pkey, kept_answers_pkey,
-- kept_answers_by_conversation.
WITH conversation AS (
    INSERT INTO conversations AS c (principal_id, id, title, created_at, updated_at)
    SELECT %(principal_id)s, %(conversation_id)s::text, %(title)s, %(asked_at)s, %(asked_at)s
    WHERE %(conversation_id)s::text IS NOT NULL
    ON CONFLICT (principal_id, id) DO UPDATE
    SET title = CASE WHEN c.deleted_at IS NOT NULL OR (excluded.created_at < c.created_at AND NOT c.renamed)
                     THEN excluded.title ELSE c.title END,
        created_at = CASE WHEN c.deleted_at IS NOT NULL THEN excluded.created_at
                          ELSE least(c.created_at, excluded.created_at) END,
        renamed = c.renamed AND c.deleted_at IS NULL,
        updated_at = greatest(c.updated_at, excluded.updated_at),
        deleted_at = NULL
    WHERE (c.deleted_at IS NULL OR c.deleted_at < excluded.created_at) AND %(answer_id)s <> ALL (c.dropped)
    RETURNING c.id
), kept AS (
    INSERT INTO kept_answers (answer_id, principal_id, conversation_id, asked_at, question, read_as, answer, told)
    SELECT %(answer_id)s, %(principal_id)s, %(conversation_id)s, %(asked_at)s, %(question)s, %(read_as)s, %(answer)s, %(told)s
    WHERE %(conversation_id)s::text IS NULL OR EXISTS (SELECT FROM conversation)
    ON CONFLICT (answer_id) DO NOTHING
    RETURNING answer_id
), trimmed AS (
    DELETE FROM kept_answers WHERE answer_id IN (
        SELECT answer_id FROM kept_answers
        WHERE principal_id = %(principal_id)s AND conversation_id = %(conversation_id)s AND answer_id <> %(answer_id)s
        ORDER BY answer_id DESC OFFSET %(turns_max)s - 1
    )
)
INSERT INTO kept_evidence (document_id, answer_id)
SELECT document_id, answer_id FROM kept, unnest(%(document_ids)s::text[]) AS document_id

-- name: conversations
-- Newest first, after the one of the cursor. Index: conversations_by_time; kept_answers_by_conversation for each.
SELECT c.id, c.title, c.created_at, c.updated_at,
       (SELECT count(*) FROM kept_answers a WHERE a.principal_id = c.principal_id AND a.conversation_id = c.id)
FROM conversations c
WHERE c.principal_id = %(principal_id)s AND c.deleted_at IS NULL
  AND (c.updated_at, c.id) < (%(before)s, %(before_id)s)
  AND (%(words)s = '' OR strpos(lower(c.title), lower(%(words)s)) > 0 OR EXISTS (
      SELECT FROM kept_answers a
      WHERE a.principal_id = c.principal_id AND a.conversation_id = c.id AND strpos(lower(a.question), lower(%(words)s)) > 0
  ))
ORDER BY c.updated_at DESC, c.id DESC
LIMIT %(count)s

-- name: conversation
-- Index: conversations_pkey, kept_answers_by_conversation.
SELECT c.id, c.title, c.created_at, c.updated_at,
       (SELECT count(*) FROM kept_answers a WHERE a.principal_id = c.principal_id AND a.conversation_id = c.id)
FROM conversations c
WHERE c.principal_id = %(principal_id)s AND c.id = %(id)s AND c.deleted_at IS NULL

-- name: turns
-- The newest before the cursor, newest first. Index: kept_answers_by_conversation.
SELECT answer_id, asked_at, question, read_as, answer, erased, shared_at IS NOT NULL, told
FROM kept_answers
WHERE principal_id = %(principal_id)s AND conversation_id = %(id)s AND answer_id < %(before)s
ORDER BY answer_id DESC
LIMIT %(count)s

-- name: answer
-- One's own, or one that its owner shares. Index: kept_answers_pkey.
SELECT answer_id, asked_at, question, read_as, answer, erased, shared_at IS NOT NULL, told, principal_id
FROM kept_answers
WHERE answer_id = %(answer_id)s AND (principal_id = %(principal_id)s OR shared_at IS NOT NULL)

-- name: anybodys_answer
-- For curators, of answers that were rated. Index: kept_answers_pkey.
SELECT answer_id, asked_at, question, read_as, answer, erased, shared_at IS NOT NULL, told
FROM kept_answers WHERE answer_id = %(answer_id)s

-- name: rename
-- Index: conversations_pkey.
UPDATE conversations SET title = %(title)s, renamed = true
WHERE principal_id = %(principal_id)s AND id = %(id)s AND deleted_at IS NULL
RETURNING id

-- name: remove
-- Its answers go by `remove_answers`, in the same transaction. Index: conversations_pkey.
UPDATE conversations SET deleted_at = clock_timestamp(), title = ''
WHERE principal_id = %(principal_id)s AND id = %(id)s AND deleted_at IS NULL
RETURNING id

-- name: remove_begun
-- A conversation of which nothing was kept a moment ago. Index: conversations_pkey.
INSERT INTO conversations (principal_id, id, title, created_at, updated_at, deleted_at)
VALUES (%(principal_id)s, %(id)s, '', clock_timestamp(), clock_timestamp(), clock_timestamp())
ON CONFLICT (principal_id, id) DO UPDATE SET deleted_at = clock_timestamp(), title = ''

-- name: remove_answers
-- A statement of its own: it sees what was kept while those before waited for the conversation.
-- Index: kept_answers_by_conversation.
DELETE FROM kept_answers WHERE principal_id = %(principal_id)s AND conversation_id = %(id)s

-- name: turn
-- Whether it is kept. Index: kept_answers_pkey.
SELECT FROM kept_answers
WHERE answer_id = %(answer_id)s AND principal_id = %(principal_id)s AND conversation_id = %(id)s

-- name: hold
-- Nothing is kept in the conversation until the transaction ends. Where nothing is yet, it begins as one that was deleted
-- when the dropped turn was asked: a later question begins it anew. Index: conversations_pkey.
INSERT INTO conversations AS c (principal_id, id, title, created_at, updated_at, deleted_at)
VALUES (%(principal_id)s, %(id)s, '', %(asked_at)s, %(asked_at)s, %(asked_at)s)
ON CONFLICT (principal_id, id) DO UPDATE SET dropped = c.dropped

-- name: remove_turns
-- A turn and those after it, kept or begun. The newest are remembered as dropped: the others were kept long ago.
-- Index: kept_answers_by_conversation, conversations_pkey.
WITH gone AS (
    DELETE FROM kept_answers
    WHERE principal_id = %(principal_id)s AND conversation_id = %(id)s AND answer_id >= %(answer_id)s
    RETURNING answer_id
)
UPDATE conversations AS c SET dropped = ARRAY (
    SELECT answer_id FROM (
        SELECT unnest(c.dropped) UNION SELECT unnest(%(begun)s::text[]) UNION SELECT answer_id FROM gone
    ) AS one (answer_id)
    ORDER BY answer_id DESC LIMIT %(dropped_max)s
)
WHERE principal_id = %(principal_id)s AND id = %(id)s

-- name: share
-- Index: kept_answers_pkey.
UPDATE kept_answers
SET shared_at = CASE WHEN %(shared)s THEN coalesce(shared_at, clock_timestamp()) END
WHERE answer_id = %(answer_id)s AND principal_id = %(principal_id)s
RETURNING answer_id

-- name: evidence_after
-- A page of the documents that answers stand on, each once, in the order of ids. Index: kept_evidence_pkey, once for each.
WITH RECURSIVE found AS (
    (SELECT document_id FROM kept_evidence WHERE document_id > %(after)s ORDER BY document_id LIMIT 1)
    UNION ALL
    SELECT (SELECT e.document_id FROM kept_evidence e WHERE e.document_id > found.document_id ORDER BY e.document_id LIMIT 1)
    FROM found
    WHERE found.document_id IS NOT NULL
)
SELECT document_id FROM found WHERE document_id IS NOT NULL LIMIT %(count)s

-- name: evidence_among
-- Index: kept_evidence_pkey.
SELECT given FROM unnest(%(document_ids)s::text[]) AS given
WHERE EXISTS (SELECT FROM kept_evidence e WHERE e.document_id = given)
LIMIT cardinality(%(document_ids)s::text[])

-- name: erase
-- What was said, from which evidence, and the question as a model may have rewritten it after what was said before. The
-- question stays. Index: kept_evidence_pkey, kept_answers_pkey.
WITH gone AS (
    DELETE FROM kept_evidence WHERE answer_id IN (
        SELECT answer_id FROM kept_evidence WHERE document_id = ANY (%(document_ids)s)
    )
    RETURNING answer_id
)
UPDATE kept_answers SET answer = NULL, read_as = '', erased = true
WHERE answer_id IN (SELECT answer_id FROM gone)
RETURNING answer_id

-- name: forget_answers
-- Index: kept_answers_by_age.
DELETE FROM kept_answers WHERE answer_id IN (
    SELECT answer_id FROM kept_answers
    WHERE asked_at < clock_timestamp() - make_interval(secs => %(retention_s)s) ORDER BY asked_at LIMIT %(count)s
)

-- name: forget_conversations
-- Those that nobody has asked in for as long, and what was left of deleted ones. Index: conversations_by_age.
DELETE FROM conversations WHERE (principal_id, id) IN (
    SELECT principal_id, id FROM conversations
    WHERE updated_at < clock_timestamp() - make_interval(secs => %(retention_s)s)
       OR deleted_at < clock_timestamp() - make_interval(secs => %(deleted_s)s)
    ORDER BY updated_at LIMIT %(count)s
)
