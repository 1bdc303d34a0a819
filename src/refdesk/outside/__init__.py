"""Adapters to the outside: one technology each, none of them knows a service."""
