"""Images known to show the same frame, with the evidence: manifests/near_duplicates/<slug>.json.

    {"source": "<slug>", "evidence": "how it is known", "groups": [["key", "key", …], …],
     "copies": {"of": "<slug>", "names": {"HC/": "training_set/"}}}

groups: near-duplicates within the source, by key or by name of group. copies: images taken from another source, by the
beginning of their key here and there.
"""

import json
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["copied_from", "known", "original"]


@cache
def _file(slug: str) -> dict[str, Any]:
    file = resources.files("us43d.manifests").joinpath("near_duplicates", f"{slug}.json")
    return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}


def known(slug: str) -> list[tuple[str, ...]]:
    """List the keys, or names of groups, of one source that must stay together; empty where none are known."""
    return [tuple(names) for names in _file(slug).get("groups", ())]


def copied_from(slug: str) -> str | None:
    """Return the slug of the source that some images of this one were taken from."""
    of = _file(slug).get("copies", {}).get("of")
    return None if of is None else str(of)


def original(slug: str, key: str) -> str | None:
    """Return the key of the original in the source `copied_from(slug)`; None if the image is not a copy."""
    for own, other in _file(slug).get("copies", {}).get("names", {}).items():
        if key.startswith(own):
            return f"{other}{key.removeprefix(own)}"
    return None
