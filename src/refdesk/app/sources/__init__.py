"""Where documents come from: names, ignore rules, folders here and behind URLs, and the walk through them."""
