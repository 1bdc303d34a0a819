-- Whose question it was, as far as curators of a group may read it; and what an answer that was rated badly had cited: its question goes
-- with those documents.
ALTER TABLE gap_questions
    ADD COLUMN groups text[] NOT NULL DEFAULT '{}',
    ADD COLUMN documents text[] NOT NULL DEFAULT '{}';

CREATE INDEX gap_questions_documents ON gap_questions USING gin (documents);
