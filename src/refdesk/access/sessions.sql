-- name: begin_session
INSERT INTO sessions (
    cookie_sha256, issuer, subject, provider_session, principal_id, name, groups, role, sealed_tokens, renewable, browser, expires_at
)
VALUES (
    %(cookie_sha256)s, %(issuer)s, %(subject)s, %(provider_session)s, %(principal_id)s, %(name)s, %(groups)s, %(role)s,
    %(sealed_tokens)s, %(renewable)s, %(browser)s, now() + make_interval(secs => %(lasts_s)s)
);

-- name: end_crowd
-- The oldest of one principal beyond the most. By the index on principal_id, created_at.
DELETE FROM sessions WHERE id IN (
    SELECT id FROM sessions WHERE principal_id = %(principal_id)s ORDER BY created_at DESC OFFSET %(most)s LIMIT 1000
);

-- name: sweep_sessions
-- By the index on expires_at.
DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= now() ORDER BY expires_at LIMIT 1000);

-- name: find_session
-- By the unique index on cookie_sha256.
SELECT id, principal_id, name, groups, role, subject, sealed_tokens, renewable,
    extract(epoch FROM now() - confirmed_at)::float8, extract(epoch FROM now() - seen_at)::float8
FROM sessions
WHERE cookie_sha256 = %(cookie_sha256)s AND expires_at > now() AND seen_at > now() - make_interval(secs => %(idle_s)s);

-- name: find_sessions
-- By primary key.
SELECT id, principal_id, name, groups, role, subject, sealed_tokens, renewable,
    extract(epoch FROM now() - confirmed_at)::float8, extract(epoch FROM now() - seen_at)::float8
FROM sessions
WHERE id = ANY(%(ids)s) AND expires_at > now() AND seen_at > now() - make_interval(secs => %(idle_s)s)
LIMIT cardinality(%(ids)s::text[]);

-- name: note_seen
-- By primary key.
UPDATE sessions SET seen_at = now() WHERE id = %(id)s;

-- name: claim_asking
-- One process alone asks the provider, with the tokens that stand there. By primary key.
UPDATE sessions SET asking_until = now() + make_interval(secs => %(lease_s)s)
WHERE id = %(id)s AND sealed_tokens = %(sealed_tokens)s AND asking_until <= now()
RETURNING id;

-- name: release_asking
-- By primary key.
UPDATE sessions SET asking_until = '-infinity' WHERE id = %(id)s AND sealed_tokens = %(sealed_tokens)s;

-- name: confirm_session
-- By primary key.
UPDATE sessions
SET confirmed_at = now(), asking_until = '-infinity', name = %(name)s, groups = %(groups)s, role = %(role)s,
    sealed_tokens = %(sealed_tokens)s
WHERE id = %(id)s;

-- name: list_own
-- By the index on principal_id, created_at.
SELECT id, principal_id, name, groups, role, browser, created_at, seen_at, expires_at FROM sessions
WHERE principal_id = %(principal_id)s AND expires_at > now() AND seen_at > now() - make_interval(secs => %(idle_s)s)
ORDER BY created_at DESC LIMIT 1000;

-- name: list_all
-- By the index on principal_id, created_at.
SELECT id, principal_id, name, groups, role, browser, created_at, seen_at, expires_at FROM sessions
WHERE expires_at > now() AND seen_at > now() - make_interval(secs => %(idle_s)s)
ORDER BY principal_id, created_at DESC LIMIT 1000;

-- name: end_session
-- By primary key.
DELETE FROM sessions WHERE id = %(id)s AND (%(principal_id)s::text IS NULL OR principal_id = %(principal_id)s) RETURNING id;

-- name: end_cookie
-- By the unique index on cookie_sha256.
DELETE FROM sessions WHERE cookie_sha256 = %(cookie_sha256)s RETURNING sealed_tokens;

-- name: end_of_provider_session
-- By the index on issuer, provider_session.
DELETE FROM sessions
WHERE issuer = %(issuer)s AND provider_session = %(provider_session)s
    AND (%(subject)s::text IS NULL OR subject = %(subject)s)
RETURNING id;

-- name: end_of_subject
-- By the index on issuer, subject.
DELETE FROM sessions WHERE issuer = %(issuer)s AND subject = %(subject)s RETURNING id;

-- name: spend_logout_token
INSERT INTO spent_logout_tokens (id_sha256, expires_at) VALUES (%(id_sha256)s, to_timestamp(%(expires_at)s))
ON CONFLICT DO NOTHING
RETURNING id_sha256;

-- name: sweep_logout_tokens
-- By the index on expires_at.
DELETE FROM spent_logout_tokens WHERE id_sha256 IN (
    SELECT id_sha256 FROM spent_logout_tokens WHERE expires_at <= now() ORDER BY expires_at LIMIT 1000
);
