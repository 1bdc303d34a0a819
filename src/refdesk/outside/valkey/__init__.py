"""Valkey, or Redis: one client a process (`client`), whether it is one server, Sentinels or a cluster (`forms`)."""
