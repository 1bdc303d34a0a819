"""People who sign in with an OpenID provider: what is asked of it, what its tokens are checked for, who they then are."""
