-- For listing what stands under a prefix of external ids: a source's documents, whoever owns them.
CREATE INDEX documents_external_id_order ON documents (external_id COLLATE "C", owner, id)
    WHERE deleted_at IS NULL AND external_id IS NOT NULL;
