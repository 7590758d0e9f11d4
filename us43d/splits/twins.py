"""Images known to show the same frame, from the facts: manifests/twins/<slug>.json."""

import json
from importlib import resources

__all__ = ["known"]


def known(slug: str) -> list[tuple[str, ...]]:
    """Groups of keys of one source that must stay together; empty where none is known."""
    file = resources.files("us43d.manifests").joinpath("twins", f"{slug}.json")
    if not file.is_file():
        return []
    return [tuple(keys) for keys in json.loads(file.read_text("utf-8"))["groups"]]
