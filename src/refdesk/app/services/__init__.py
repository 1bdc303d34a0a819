"""Each service put together: the only places that know every part of it."""
