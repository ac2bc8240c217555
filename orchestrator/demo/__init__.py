"""Between the command and the configuration: ``maf demo``, the whole flow on a sample repository, for real."""
