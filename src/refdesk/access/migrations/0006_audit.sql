-- Who did what to which object, and what came of it. Rows are added, and removed once they are old; nothing else, whoever asks.

CREATE TABLE audit_log (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL,
    principal_id   text,                       -- NULL: nobody was known
    principal_name text,
    how            text,                       -- what let them in
    action         text NOT NULL,              -- of the table of policy
    did            text NOT NULL,              -- the route, without what stood in it
    object_id      text,
    result         text NOT NULL CHECK (result IN ('allowed', 'denied', 'failed')),
    request_id     text,
    address        text
);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_principal ON audit_log (principal_id, id);
CREATE INDEX audit_log_object ON audit_log (object_id, id);

CREATE FUNCTION refuse_to_forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('refdesk.retention', true) = 'on' AND OLD.at < now() - interval '1 day' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit log is added to, and not changed' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_log_stays BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse_to_forget();
CREATE TRIGGER audit_log_is_not_emptied BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_forget();
