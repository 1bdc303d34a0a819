-- The titles of live documents by themselves, in small letters: a search for a part of them reads a tenth of what the documents take.
-- Written with the documents, be it by the release before this one.

CREATE TABLE document_titles (
    document_id     text PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,
    titles          text NOT NULL                           -- each on a line
);

CREATE FUNCTION keep_titles() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.deleted_at IS NULL THEN
        INSERT INTO document_titles VALUES (NEW.id, lower(concat_ws(E'\n', NEW.title, NEW.own_title)))
        ON CONFLICT (document_id) DO UPDATE SET titles = EXCLUDED.titles;
    ELSE
        DELETE FROM document_titles WHERE document_id = NEW.id;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER documents_titled AFTER INSERT ON documents FOR EACH ROW EXECUTE FUNCTION keep_titles();
CREATE TRIGGER documents_retitled AFTER UPDATE OF title, own_title, deleted_at ON documents FOR EACH ROW
    WHEN ((OLD.title, OLD.own_title, OLD.deleted_at) IS DISTINCT FROM (NEW.title, NEW.own_title, NEW.deleted_at))
    EXECUTE FUNCTION keep_titles();

INSERT INTO document_titles
SELECT id, lower(concat_ws(E'\n', title, own_title)) FROM documents WHERE deleted_at IS NULL;
