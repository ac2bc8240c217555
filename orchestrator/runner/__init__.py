"""Floor 5: ``maf run``: launches agents, checks gates, merges; the automatic PM, QA and CTO."""
