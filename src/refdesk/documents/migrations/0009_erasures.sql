-- What is known of where a deleted document was erased, and when. Places of this service are written by it, those of the AI side
-- as it tells of them. No content: ids, hashes and times.
CREATE TABLE erasures (
    document_id text NOT NULL REFERENCES documents (id),
    place       text NOT NULL,
    erased_at   timestamptz NOT NULL,
    removed     bigint NOT NULL,
    PRIMARY KEY (document_id, place)
);

-- Contents that a deleted document had and that are still in the content directory, as far as that is known.
CREATE TABLE contents_to_erase (
    document_id text NOT NULL REFERENCES documents (id),
    sha256      text NOT NULL,
    since       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (document_id, sha256)
);
CREATE INDEX contents_to_erase_since ON contents_to_erase (since);

CREATE FUNCTION begin_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO contents_to_erase (document_id, sha256)
    SELECT OLD.id, OLD.content_sha256 WHERE OLD.content_sha256 IS NOT NULL
    UNION
    SELECT OLD.id, content_sha256 FROM document_versions WHERE document_id = OLD.id AND content_sha256 <> ''
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
-- Whatever buries a document, be it of the release before this one: before its versions are forgotten there, after that here.
CREATE TRIGGER documents_erased AFTER UPDATE OF deleted_at ON documents FOR EACH ROW
    WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION begin_erasure();
