"""The index in Qdrant, with its ledger in PostgreSQL."""
