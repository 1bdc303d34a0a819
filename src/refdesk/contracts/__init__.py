"""What crosses a process border: plain types, no I/O."""
