from __future__ import annotations

import pytest

from orchestrator.store import Store, open_store, schema


@pytest.fixture
def made_url(store_url: str) -> str:
    """A store with its schema, of each kind."""
    schema.create(store_url)
    return store_url


@pytest.fixture
def opened(request: pytest.FixtureRequest):
    """A function that opens a store and closes it when the test ends."""
    stores: list[Store] = []

    def opens(url: str, **options) -> Store:
        stores.append(open_store(url, **options))
        return stores[-1]

    yield opens
    for store in stores:
        store.close()


@pytest.fixture
def store(made_url: str, opened) -> Store:
    return opened(made_url)


@pytest.fixture
def other(made_url: str, opened) -> Store:
    """A second connection to the same store."""
    return opened(made_url)
