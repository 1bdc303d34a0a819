"""MCP: the desk's tools for agents, over streamable HTTP, without sessions. `server` alone loads the SDK."""
