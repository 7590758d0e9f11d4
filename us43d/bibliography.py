"""The citations of a set of sources as one BibTeX file."""

import re
from collections.abc import Iterable

from us43d.contract import Citation
from us43d.errors import BuildError

__all__ = ["ULTRASAM", "bibtex", "key"]

#: The collection and the model themselves.
ULTRASAM = """@article{meyer2026ultrasam,
  author={Meyer, Adrien and others},
  title={{UltraSam}: a foundation model for ultrasound using large open-access segmentation datasets},
  journal={International Journal of Computer Assisted Radiology and Surgery},
  volume={21}, number={1}, pages={93--102}, year={2026}, doi={10.1007/s11548-025-03517-8}
}"""


def key(entry: str) -> str:
    """Return the key of a BibTeX entry. Raises ValueError if it has none."""
    match = re.match(r"\s*@\w+\s*\{\s*([^,\s]+)\s*,", entry)
    if match is None:
        raise ValueError(f"no BibTeX entry: {entry[:40]!r}")
    return match.group(1)


def bibtex(citations: Iterable[Citation]) -> str:
    """Return the entries by key, each once.

    Raises BuildError where two entries have one key: citations lie in builds, too, and one may be older than a
    correction of the bibliography.
    """
    entries: dict[str, str] = {}
    for citation in citations:
        text = citation.bibtex.strip()
        if entries.setdefault(key(text), text) != text:
            raise BuildError(
                f"Two different BibTeX entries have the key {key(text)!r}; a build may be older than a correction.",
                next="us43d build --all",
            )
    return "".join(f"{entries[name]}\n\n" for name in sorted(entries)).rstrip("\n") + "\n"
