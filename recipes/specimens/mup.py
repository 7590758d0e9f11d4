"""MUP: the tree of MicroSeg, of which it is the second entry."""

from .microseg import make

__all__ = ["make"]
