-- How far the broker's stream had come when an event was marked as published (0: before that was kept), and how often it was
-- told again because nobody spoke of it any more: what is lost inside the stream is found by its place.

ALTER TABLE outbox ADD COLUMN sequence bigint NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN retold smallint NOT NULL DEFAULT 0;

CREATE INDEX outbox_sequence ON outbox (sequence) WHERE published_at IS NOT NULL;
