-- Why documents wait, asked inside the statements that read documents: they take one round trip whether any of them waits
-- or not, and cost nothing more where none does. In PL/pgSQL, which keeps its plans: planning would cost more than running.

-- The changes that have waited longest and may be worked on now, in their order: the front of the queue only, which costs the
-- same however long the queue is. Index: documents_pending.
CREATE FUNCTION front_of_queue(count_max integer) RETURNS text[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY(
        SELECT id FROM documents
        WHERE state = 'pending' AND (next_try_at IS NULL OR next_try_at <= statement_timestamp())
        ORDER BY pending_since, id
        LIMIT count_max
    );
END
$$;

-- The `waiting` of a pending document, as contracts/documents.py has it. Ahead of it are those before it at the front, or at
-- least all of them. Index: documents_pkey, outbox_document.
CREATE FUNCTION explain_waiting(
    pending_id text, front text[], publish_s_max double precision, silence_s_max double precision
) RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    published_by CONSTANT timestamptz := statement_timestamp() - make_interval(secs => publish_s_max);
    heard_by CONSTANT timestamptz := statement_timestamp() - make_interval(secs => silence_s_max);
    current_version bigint;
    since timestamptz;
    indexing_until timestamptz;
    next_try_at timestamptz;
    attempts integer;
    event_created_at timestamptz;
    event_published_at timestamptz;
    reason text;
    place integer := 0;  -- who is worked on, or waits for its next attempt, is in nobody's way and behind nobody
BEGIN
    SELECT d.version, d.pending_since, d.indexing_until, d.next_try_at, d.attempts
    INTO current_version, since, indexing_until, next_try_at, attempts
    FROM documents d WHERE d.id = pending_id;

    IF indexing_until > statement_timestamp() THEN
        reason := 'indexing';
        next_try_at := NULL;
    ELSIF next_try_at > statement_timestamp() THEN
        reason := CASE WHEN attempts > 0 THEN 'retrying' ELSE 'part_away' END;
    ELSE
        SELECT o.created_at, o.published_at INTO event_created_at, event_published_at
        FROM outbox o WHERE o.document_id = pending_id AND o.version = current_version
        ORDER BY o.id DESC LIMIT 1;
        reason := CASE
            WHEN event_published_at IS NULL AND event_created_at < published_by THEN 'broker_away'
            WHEN event_published_at < heard_by AND (SELECT heard_at FROM indexer_news) < heard_by THEN 'indexer_away'
            ELSE 'queued' END;
        next_try_at := NULL;
        place := array_position(front, pending_id) - 1;
    END IF;

    RETURN json_build_object(
        'reason', reason, 'since', since, 'attempts', attempts, 'next_try_at', next_try_at,
        'ahead', coalesce(place, cardinality(front)), 'ahead_at_least', place IS NULL
    );
END
$$;
