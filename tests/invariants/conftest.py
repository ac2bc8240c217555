import pytest

from tests.support.board import Board, fill


@pytest.fixture
def board(store_url):
    made = fill(Board(store_url))
    yield made
    made.store.close()
