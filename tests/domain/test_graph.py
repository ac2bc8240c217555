from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.planning import critical_path, describe_cycle, find_cycle, ready_order, waiting_graph

NODES = st.integers(0, 7)
GRAPHS = st.dictionaries(NODES, st.lists(NODES, max_size=4), max_size=8)


def reachable(edges, start):
    seen, stack = set(), list(edges.get(start, ()))
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(edges.get(node, ()))
    return seen


@given(GRAPHS)
def test_a_cycle_is_found_exactly_where_a_node_reaches_itself(edges):
    cycle = find_cycle(edges)
    assert (cycle is not None) == any(node in reachable(edges, node) for node in edges)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert len(cycle) > 1
        assert all(after in edges[before] for before, after in pairwise(cycle))


def test_none_may_be_a_falsy_node():
    assert find_cycle({0: [0]}) == [0, 0]


def test_long_chains_need_no_recursion():
    chain = {f"S{i}": [f"S{i - 1}"] if i else [] for i in range(10_000)}
    assert find_cycle(chain) is None
    assert critical_path(chain, {})["S0"] == 10_000
    chain["S0"] = ["S9999"]
    assert len(find_cycle(chain) or ()) == 10_001
    with pytest.raises(InvalidInput, match="cycle"):
        critical_path(chain, {})


@given(st.lists(st.tuples(NODES, NODES), max_size=12), st.lists(st.integers(0, 9), min_size=8, max_size=8))
def test_the_critical_path_is_the_heaviest_chain(pairs, weights):
    after = {str(node): {str(low) for low, high in pairs if low < high == node} for node in range(8)}
    weight = {str(node): weights[node] for node in range(8)}

    def heaviest(story):
        return weight[story] + max((heaviest(other) for other, needs in after.items() if story in needs), default=0)

    assert critical_path(after, weight) == {story: heaviest(story) for story in after}


def test_the_critical_path_ignores_what_is_not_listed():
    assert critical_path({"B": ["A"], "C": ["B", "gone"]}, {"B": 5}) == {"B": 6, "C": 1}


def test_waits_of_waves_and_dependencies_are_one_graph():
    graph = waiting_graph({"S-1": "W1", "S-2": "W2"}, {"S-1": ["S-2"]}, {"W1": [], "W2": ["W1"]})
    cycle = find_cycle(graph)
    assert cycle is not None
    assert set(describe_cycle(cycle).split(" -> ")) == {"story S-1", "story S-2", "wave W1", "wave W2"}
    assert find_cycle(waiting_graph({"S-1": "W1", "S-2": "W2"}, {"S-2": ["S-1"]}, {"W1": [], "W2": ["W1"]})) is None


def test_empty_waves_carry_the_wait_on():
    graph = waiting_graph({"S-1": "W1", "S-3": "W3"}, {"S-1": ["S-3"]}, {"W1": [], "W2": ["W1"], "W3": ["W2"]})
    assert find_cycle(graph) is not None


def test_a_long_cycle_is_shortened_in_words():
    words = describe_cycle([("story", f"S{i}") for i in range(1000)])
    assert "(940 more)" in words
    assert words.startswith("story S0 -> story S1 ")
    assert words.endswith(" -> story S999")


def test_ready_order():
    best = sorted(
        [(1, 3, "S-10"), (1, 3, "S-2"), (2, 99, "S-1"), (1, 7, "x"), (1, 3, "2")], key=lambda x: ready_order(*x)
    )
    assert [code for _, _, code in best] == ["x", "S-2", "S-10", "2", "S-1"]
