"""Answers without a language model: what is quoted, and how probable it is that this answers the question."""
