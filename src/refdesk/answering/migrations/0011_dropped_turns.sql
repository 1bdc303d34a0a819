-- Turns that were dropped lately, so that an answer which comes to be kept later than that does not bring its turn back.
ALTER TABLE conversations ADD COLUMN dropped text[] NOT NULL DEFAULT '{}';
