-- What an answer's writer was told before, beside its own evidence: the document versions that the turns before it stand on, as a JSON
-- list. A shared answer may repeat them.
ALTER TABLE kept_answers ADD COLUMN told text NOT NULL DEFAULT '[]';
