-- name: save_feedback
-- By primary key; the last word counts.
INSERT INTO answer_feedback (answer_id, principal_id, rating, comment)
VALUES (%(answer_id)s, %(principal_id)s, %(rating)s, %(comment)s)
ON CONFLICT (answer_id) DO UPDATE
SET rating = EXCLUDED.rating, comment = EXCLUDED.comment, created_at = now();
