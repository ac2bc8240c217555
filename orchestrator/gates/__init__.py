"""Floor 4: what stands behind gates 1 to 7: git, the project's checks and the use cases, put together."""
