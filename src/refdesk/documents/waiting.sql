-- Why documents wait.

-- name: explain_waiting
-- Of those given that are pending. Ahead of a document are the changes that have waited longer and may be worked on now;
-- they are counted at the front of the queue only, which costs the same however long it is.
-- Index: documents_pkey, documents_pending (its front), outbox_document.
WITH front AS (
    SELECT id, row_number() OVER (ORDER BY pending_since, id) - 1 AS place
    FROM (
        SELECT id, pending_since FROM documents
        WHERE state = 'pending' AND (next_try_at IS NULL OR next_try_at <= statement_timestamp())
        ORDER BY pending_since, id
        LIMIT %(counted_max)s
    ) AS counted
)
SELECT d.id, d.pending_since AS since, d.attempts, told.ahead IS NULL AND front.place IS NULL AS ahead_at_least,
       coalesce(told.ahead, front.place, %(counted_max)s) AS ahead,
       CASE WHEN told.reason IN ('retrying', 'part_away') THEN d.next_try_at END AS next_try_at, told.reason
FROM documents d
LEFT JOIN front USING (id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN d.indexing_until > statement_timestamp() THEN 'indexing'
                WHEN d.next_try_at > statement_timestamp() AND d.attempts > 0 THEN 'retrying'
                WHEN d.next_try_at > statement_timestamp() THEN 'part_away'
                WHEN event.published_at IS NULL
                     AND event.created_at < statement_timestamp() - make_interval(secs => %(publish_s_max)s)
                THEN 'broker_away'
                WHEN event.published_at < statement_timestamp() - make_interval(secs => %(silence_s_max)s)
                     AND news.heard_at < statement_timestamp() - make_interval(secs => %(silence_s_max)s)
                THEN 'indexer_away'
                ELSE 'queued' END AS reason,
           CASE WHEN d.indexing_until > statement_timestamp() OR d.next_try_at > statement_timestamp()
                THEN 0 END AS ahead
    FROM indexer_news news
    LEFT JOIN LATERAL (
        SELECT created_at, published_at FROM outbox
        WHERE document_id = d.id AND version = d.version
        ORDER BY id DESC
        LIMIT 1
    ) AS event ON true
) AS told
WHERE d.id = ANY(%(ids)s) AND d.state = 'pending'
LIMIT %(count)s;
