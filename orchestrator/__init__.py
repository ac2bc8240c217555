"""maf: coordinates teams of coding agents that build software together in one git repository."""

__version__ = "0.1.0"
