-- What the indexer's log says of the attempts that failed: the end of it, bounded.
ALTER TABLE dead_letters ADD COLUMN log text NOT NULL DEFAULT '';
