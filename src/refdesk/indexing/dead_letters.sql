-- name: record_failure
-- By letter_key. Counts one more attempt; final when the caller says so or the attempts are used up.
-- A row that was replayed or discarded, or was given up for another event, begins a new series.
INSERT INTO dead_letters AS letter
    (letter_key, event_id, subject, payload, document_id, version, reason, code, log, attempts, final)
VALUES (%(letter_key)s, %(event_id)s, %(subject)s, %(payload)s, %(document_id)s, %(version)s, %(reason)s, %(code)s,
        right('1. ' || %(log)s, %(log_characters_max)s), 1, %(final)s OR %(attempts_max)s <= 1)
ON CONFLICT (letter_key) DO UPDATE SET
    event_id = EXCLUDED.event_id, subject = EXCLUDED.subject, payload = EXCLUDED.payload,
    reason = EXCLUDED.reason, code = EXCLUDED.code,
    attempts = CASE WHEN letter.replayed_at IS NOT NULL OR letter.discarded_at IS NOT NULL
                      OR (letter.final AND letter.event_id IS DISTINCT FROM EXCLUDED.event_id)
                    THEN 1 ELSE letter.attempts + 1 END,
    final = %(final)s OR %(attempts_max)s <=
            CASE WHEN letter.replayed_at IS NOT NULL OR letter.discarded_at IS NOT NULL
                   OR (letter.final AND letter.event_id IS DISTINCT FROM EXCLUDED.event_id)
                 THEN 1 ELSE letter.attempts + 1 END,
    log = CASE WHEN letter.replayed_at IS NOT NULL OR letter.discarded_at IS NOT NULL
                 OR (letter.final AND letter.event_id IS DISTINCT FROM EXCLUDED.event_id)
               THEN EXCLUDED.log
               ELSE right(letter.log || E'\n' || (letter.attempts + 1)::text || '. ' || %(log)s,
                          %(log_characters_max)s) END,
    first_failed_at = CASE WHEN letter.replayed_at IS NOT NULL OR letter.discarded_at IS NOT NULL
                             OR (letter.final AND letter.event_id IS DISTINCT FROM EXCLUDED.event_id)
                           THEN now() ELSE letter.first_failed_at END,
    last_failed_at = now(), replayed_at = NULL, discarded_at = NULL
RETURNING attempts, final;

-- name: forget_failures
-- Index: dead_letters_document. What went wrong with this version, or an older one, does not matter any more.
DELETE FROM dead_letters WHERE document_id = %(document_id)s AND version <= %(version)s;

-- name: list_letters
-- Open dead letters, newest first, below the cursor. Index: dead_letters_open.
SELECT id, event_id, subject, payload, document_id, version, reason, code, attempts, log,
       first_failed_at, last_failed_at, replayed_at, discarded_at
FROM dead_letters
WHERE final AND replayed_at IS NULL AND discarded_at IS NULL AND id < %(before)s
  AND (%(code)s::text IS NULL OR code = %(code)s)
  AND (%(reason)s::text IS NULL OR position(lower(%(reason)s) IN lower(reason)) > 0)
ORDER BY id DESC
LIMIT %(limit)s;

-- name: count_letters
-- Index: dead_letters_open.
SELECT count(*) FROM dead_letters WHERE final AND replayed_at IS NULL AND discarded_at IS NULL;

-- name: get_letter
-- By primary key.
SELECT id, event_id, subject, payload, document_id, version, reason, code, attempts, log,
       first_failed_at, last_failed_at, replayed_at, discarded_at
FROM dead_letters
WHERE id = %(id)s AND final;

-- name: mark_replayed
-- By primary key; only an open dead letter can be replayed, and only once. One that has failed again since it was read
-- stays open.
UPDATE dead_letters SET replayed_at = now()
WHERE id = %(id)s AND last_failed_at = %(last_failed_at)s AND final AND replayed_at IS NULL AND discarded_at IS NULL;

-- name: mark_discarded
-- By primary key; only an open dead letter can be discarded.
UPDATE dead_letters SET discarded_at = now()
WHERE id = %(id)s AND final AND replayed_at IS NULL AND discarded_at IS NULL;
