"""Copy model card, licence and references when weights are converted."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from us43d.model.published import PUBLISHED
from us43d.model.weights import Loaded

__all__ = ["CARD", "carried"]

#: The weights' own card, beside the README.md of the new form.
CARD = "MODEL_CARD.md"
_FILES = {"README.md": CARD} | {name: name for name in (CARD, "LICENSE", "LICENSE.md", "LICENSE.txt", "references.bib")}


def carried(loaded: Loaded, source: Path, folder: Path, public: str | None) -> tuple[str, list[str]]:
    """Copy model card, licence and references of weights.

    Args:
        loaded: The weights.
        source: File or folder they were loaded from.
        folder: Destination.
        public: Name of the public weights, if these are public weights.

    Returns:
        The licence in words, and the names of the copied files.
    """
    copied = []
    if loaded.form == "us43d" and source.is_dir():  # files next to a single weights file may belong to other weights
        for name, copy in _FILES.items():
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / copy)
                copied.append(copy)
    if public in PUBLISHED:
        return f"{PUBLISHED[public].licence}, as {public}: {PUBLISHED[public].page}", copied
    record = loaded.meta.get("licences")
    if isinstance(record, Mapping) and isinstance(record.get("by_licence"), Mapping):
        sources = "; ".join(f"{title}: {', '.join(map(str, names))}" for title, names in record["by_licence"].items())
        return f"see {CARD}; trained on {sources}" if CARD in copied else f"trained on {sources}", copied
    return "unknown to us43d; ask those who published the weights", copied
