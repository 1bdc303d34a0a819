"""The vector database: chunks in, ranked passages out."""
