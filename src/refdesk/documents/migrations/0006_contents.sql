-- Whose content directory belongs to this database, and what is missing in it.

-- One row. `used`: a directory with this identity has been taken into use; from then on no other will do.
CREATE TABLE content_store (
    identity        text NOT NULL,
    used            boolean NOT NULL DEFAULT false,
    one             boolean PRIMARY KEY DEFAULT true CHECK (one)
);
INSERT INTO content_store (identity) VALUES (replace(gen_random_uuid()::text, '-', ''));

-- Contents that documents refer to and the directory does not have.
CREATE TABLE missing_contents (
    sha256          text PRIMARY KEY,
    fault           text NOT NULL CHECK (fault IN ('missing', 'damaged')),
    found_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
