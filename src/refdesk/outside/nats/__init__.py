"""NATS with JetStream: one connection that is watched, both streams, and consumers (`broker` is the way in)."""
