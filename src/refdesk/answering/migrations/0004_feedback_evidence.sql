-- A rating loses its question and comment when a document that its answer cited is deleted.
CREATE INDEX answer_feedback_documents ON answer_feedback USING gin (documents);
