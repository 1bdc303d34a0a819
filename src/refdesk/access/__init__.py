"""Who is calling, and what they may do: keys, authentication, permissions that can be withdrawn."""
