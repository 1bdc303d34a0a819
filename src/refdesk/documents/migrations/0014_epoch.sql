-- What tells one state of the documents from every other: how often they have changed, and when last. Two states have never the same
-- count, and what was restored from a backup has another time. `document_changes` has some hundred rows.
CREATE VIEW document_epoch AS
SELECT (SELECT sum(changes) FROM document_changes_counted) + (SELECT count(*) FROM document_changes)
       || '@' || coalesce((SELECT at::text FROM document_changes ORDER BY id DESC LIMIT 1), '') AS epoch;
