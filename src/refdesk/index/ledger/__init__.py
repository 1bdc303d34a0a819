"""The ledger of the index in PostgreSQL: generations, what each holds of every document, and news of it."""
