"""Our web kit: endpoints with their action, event streams, limits on connections, the description of the API."""
