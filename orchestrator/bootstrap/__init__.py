"""Floor 6: configuration, and from a URL and an id to a context that use cases are called with."""
