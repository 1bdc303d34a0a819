-- The outbox: written with each change, emptied by the relays.

-- name: post_event
-- The outbox row of a change, in the change's transaction. What was published of earlier versions has served.
-- Index: outbox_document.
WITH served AS (
    DELETE FROM outbox WHERE document_id = %(document_id)s AND published_at IS NOT NULL
)
INSERT INTO outbox (id, document_id, version, subject, payload, traceparent, retold)
VALUES (%(event_id)s, %(document_id)s, %(version)s, %(subject)s, %(payload)s, %(traceparent)s, %(retold)s);

-- name: wake_relays
SELECT pg_notify('refdesk_outbox', '');

-- name: claim_events
-- Rows are claimed by their own state; a lease that ran out frees them, and so does one longer than any (the clock was set back). A
-- document's later event waits while an earlier one is in another relay's hands. Index: outbox_pending, outbox_document.
WITH claimable AS (
    SELECT id FROM outbox o
    WHERE published_at IS NULL AND (claimed_until IS NULL OR claimed_until
          NOT BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(secs => %(lease_s)s))
      AND NOT EXISTS (
          SELECT 1 FROM outbox earlier
          WHERE earlier.document_id = o.document_id AND earlier.version < o.version
            AND earlier.published_at IS NULL
            AND earlier.claimed_until BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(secs => %(lease_s)s)
      )
    ORDER BY id
    LIMIT %(count)s
    FOR UPDATE SKIP LOCKED
)
UPDATE outbox SET claimed_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM claimable WHERE outbox.id = claimable.id
RETURNING outbox.id, outbox.document_id, outbox.version, outbox.subject, outbox.payload, outbox.traceparent;

-- name: is_published
-- Whether the broker has everything about this document. Index: outbox_document.
SELECT NOT EXISTS (SELECT FROM outbox WHERE document_id = %(document_id)s AND published_at IS NULL) AS published;

-- name: mark_published
-- With how far the stream had come by then, as any relay knows it: the events stand nowhere above that. The memory's row is
-- locked until this commits, so that nobody looks for lost events beyond that place without seeing these. Index: outbox_pkey.
WITH memory AS (
    UPDATE broker_memory
    SET last_sequence = greatest(last_sequence, %(last_sequence)s), seen_at = clock_timestamp()
    WHERE stream = %(stream)s
    RETURNING last_sequence
)
UPDATE outbox
SET published_at = clock_timestamp(), claimed_until = NULL,
    sequence = coalesce((SELECT last_sequence FROM memory), %(last_sequence)s)
WHERE id = ANY(%(ids)s);

-- name: release_events
-- Index: outbox_pkey.
UPDATE outbox SET claimed_until = NULL WHERE id = ANY(%(ids)s) AND published_at IS NULL;

-- name: documents_to_retell
-- Current versions and tombstones, oldest first, a batch at a time, in the trace of the change.
-- Index: documents_pkey, outbox_document.
SELECT d.*, (
    SELECT o.traceparent FROM outbox o WHERE o.document_id = d.id AND o.version = d.version ORDER BY o.id DESC LIMIT 1
) AS traceparent
FROM documents d
WHERE id > %(after)s AND (NOT %(pending_only)s OR state = 'pending')
ORDER BY id
LIMIT %(count)s
FOR SHARE;

-- name: recall_streams
SELECT stream, created_at, last_sequence FROM broker_memory LIMIT 10;

-- name: one_at_a_time
-- What several relays find lost is told again by one of them. Until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('refdesk lost events', 0));

-- name: lost_documents
-- Pending documents whose newest event the stream's reader has passed, as far as that was not looked at before; what was told
-- again a few times in vain is left to the reconciler. Index: outbox_sequence, documents_pkey, outbox_document.
SELECT d.*, o.traceparent, o.retold + 1 AS retold
FROM outbox o JOIN documents d ON d.id = o.document_id AND d.version = o.version
WHERE o.published_at IS NOT NULL AND o.sequence BETWEEN %(after)s AND %(through)s AND o.retold < %(retold_max)s
  AND d.state = 'pending'
  AND NOT EXISTS (
      SELECT 1 FROM outbox other
      WHERE other.document_id = o.document_id
        AND (other.published_at IS NULL OR other.sequence > %(through)s OR other.id > o.id)
  )
ORDER BY d.id
LIMIT %(count)s
FOR SHARE OF d;

-- name: remember_stream
INSERT INTO broker_memory (stream, created_at, last_sequence)
VALUES (%(stream)s, %(created_at)s, %(last_sequence)s)
ON CONFLICT (stream) DO UPDATE
SET created_at = excluded.created_at, seen_at = clock_timestamp(),
    last_sequence = CASE WHEN %(lower)s THEN excluded.last_sequence
                         ELSE greatest(broker_memory.last_sequence, excluded.last_sequence) END;
