-- name: save_feedback
-- By primary key; the last word counts.
INSERT INTO answer_feedback (answer_id, principal_id, rating, comment, question, documents, finish_reason)
VALUES (%(answer_id)s, %(principal_id)s, %(rating)s, %(comment)s, %(question)s, %(documents)s, %(finish_reason)s)
ON CONFLICT (answer_id) DO UPDATE
SET rating = EXCLUDED.rating, comment = EXCLUDED.comment, question = EXCLUDED.question, documents = EXCLUDED.documents,
    finish_reason = EXCLUDED.finish_reason, created_at = now();

-- name: erase_evidence
-- What was asked and said of a deleted document; that there was a rating stays. Index: answer_feedback_documents.
UPDATE answer_feedback SET question = NULL, comment = NULL, documents = '{}'
WHERE documents && %(document_ids)s::text[];

-- name: is_rated
-- By primary key.
SELECT EXISTS (SELECT FROM answer_feedback WHERE answer_id = %(answer_id)s);

-- name: rated
-- By answer_feedback_by_time. Ratings from before questions were kept have none, and are left out.
SELECT answer_id, created_at, rating, comment, question, documents, finish_reason
FROM answer_feedback
WHERE question IS NOT NULL AND (%(rating)s::text IS NULL OR rating = %(rating)s)
  AND (created_at, answer_id) > (
      coalesce((SELECT created_at FROM answer_feedback WHERE answer_id = %(after)s::text), '-infinity'),
      coalesce(%(after)s::text, '')
  )
ORDER BY created_at, answer_id
LIMIT %(count)s;

-- name: forget
-- Index: answer_feedback_by_time.
DELETE FROM answer_feedback WHERE created_at < now() - make_interval(days => %(days)s);
