"""Everything on one machine: the servers from their wheels, as child processes that are kept alive and ended with us.

supervisor ─▶ stack ─▶ postgres · nats · valkey ─▶ children ─▶ processes ─▶ launch, guardian
"""
