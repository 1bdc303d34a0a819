-- What was asked, and the documents that the answer cited: a rating is worth little without them. No text of a document is kept.
ALTER TABLE answer_feedback
    ADD COLUMN question text,
    ADD COLUMN documents text[] NOT NULL DEFAULT '{}',
    ADD COLUMN finish_reason text;

CREATE INDEX answer_feedback_by_time ON answer_feedback (created_at, answer_id);
