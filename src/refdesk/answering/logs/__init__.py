"""An answer as a log of events: in memory, in Valkey, and read as one object."""
