"""Our web kit: endpoints with their policy, event streams, limits on connections, the description of the API."""
