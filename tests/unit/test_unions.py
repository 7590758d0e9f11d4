"""Union-find: sets grow by pairs, and the smallest member represents each."""

from hypothesis import given
from hypothesis import strategies as st

from us43d.unions import Unions


@given(st.lists(st.lists(st.integers(0, 12), max_size=4), max_size=12), st.randoms())
def test_same_sets_whatever_the_order(sets: list[list[int]], random) -> None:
    unions, shuffled = Unions[int](), Unions[int]()
    for nodes in sets:
        unions.unite(nodes)
    for nodes in random.sample(sets, len(sets)):
        shuffled.unite(random.sample(nodes, len(nodes)))
    assert set(unions) == {node for nodes in sets for node in nodes}
    # Independent: grow each set until nothing overlaps it.
    for node in range(13):
        reached = {node}
        while True:
            wider = reached.union(*(nodes for nodes in sets if reached & set(nodes)))
            if wider == reached:
                break
            reached = wider
        assert unions.root(node) == shuffled.root(node) == min(reached)
