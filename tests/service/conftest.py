from __future__ import annotations

import pytest

from orchestrator.service import invariants
from orchestrator.store import open_store, schema
from tests.service.world import World


@pytest.fixture
def world(store_url: str):
    """A team on a fresh store; when the test ends, every invariant holds on what it left."""
    schema.create(store_url)
    with open_store(store_url) as store:
        world = World(store)
        yield world
        broken = invariants.failed(invariants.check(world.user))
        assert not broken, broken
