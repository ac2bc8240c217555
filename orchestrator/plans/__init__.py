"""Floor 4: importers, one file a format. Files in, an ``orchestrator.domain.plan.Plan`` out; no store."""

from orchestrator.plans.registry import FORMATS, dump, load

__all__ = ["FORMATS", "dump", "load"]
