"""Sets of things that belong together, built up from pairs (union-find with path halving, Tarjan 1975)."""

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

__all__ = ["Unions"]

#: Anything hashable that sorts: the smallest member represents its set.
Node = TypeVar("Node", bound=Any)


class Unions(Generic[Node]):
    """Disjoint sets. A node that was never united is alone in its set."""

    def __init__(self) -> None:
        self._parent: dict[Node, Node] = {}

    def __iter__(self) -> Iterator[Node]:
        """Iterate over all nodes met so far."""
        return iter(self._parent)

    def root(self, node: Node) -> Node:
        """Return the smallest member of the set of a node."""
        parent = self._parent
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def unite(self, nodes: Iterable[Node]) -> None:
        """Join the sets of all these nodes."""
        roots = sorted({self.root(node) for node in nodes})
        for other in roots[1:]:
            self._parent[other] = roots[0]
