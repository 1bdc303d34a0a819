"""Refdesk: the answer desk for an organisation's own documents."""

__version__ = "0.1.0"
