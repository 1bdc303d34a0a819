"""The command line, one module a command; each is imported only when it runs (a service must not load another's parts)."""
