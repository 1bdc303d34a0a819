"""The index in PostgreSQL: vectors and text beside the ledger."""
