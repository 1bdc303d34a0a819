"""The tables of the AI Service's own database: conversations, usage, feedback, gaps."""

from importlib import resources

MIGRATIONS = resources.files("refdesk.answering.migrations")
