"""Doors for other people's clients: OpenAI's wire format and MCP. Encodings of ``Assistant``, as `answering.routes` is."""
