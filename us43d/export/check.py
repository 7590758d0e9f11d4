"""Verify an export from its own files: checksums, counts, and that no unit is in two splits."""

import csv
import hashlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from us43d.errors import CheckError
from us43d.export.run import CHECKSUMS, COLUMNS, FACTS, IMAGES, SCHEMA
from us43d.export.storage import digest, read_file
from us43d.harmonize.check import Problem
from us43d.harmonize.remote import filesystem, is_url
from us43d.rawtree import is_litter

__all__ = ["check"]


def check(out: str, *, progress: Callable[[int, int | None], None] | None = None) -> list[Problem]:
    """Name everything that is wrong with an export.

    Args:
        out: Its folder or URL.
        progress: Called with files read and their number.

    Returns:
        Problems; an empty list if the export is sound.

    Raises:
        CheckError: If the folder does not hold an export.
    """
    written = read_file(out, FACTS)
    if written is None:
        raise CheckError(f"No export found in {out}: {FACTS} is missing.", next="us43d export --help")
    try:
        facts: dict[str, Any] = json.loads(written)
        if facts["schema"] != SCHEMA:
            return [Problem("unreadable", FACTS, f"its schema is {facts['schema']}, this version reads {SCHEMA}")]
        counted, checksums = dict(facts["images"]), facts["checksums"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckError(f"{out} is not an export of us43d: {error!r}.", next="us43d export --help") from error
    listing = read_file(out, CHECKSUMS)
    if listing is None or hashlib.sha256(listing).hexdigest() != checksums:
        return [Problem("changed", CHECKSUMS, "the file is missing or not the one that was written")]
    pairs = (line.split("  ", 1) for line in listing.decode().splitlines())
    listed = {name: digest for digest, name in pairs}
    problems = list(_files(out, listed, progress))
    problems += _rows(read_file(out, IMAGES) or b"", counted)
    return problems


def _files(out: str, listed: dict[str, str], progress: Callable[[int, int | None], None] | None) -> Iterator[Problem]:
    for done, (name, exported) in enumerate(sorted(listed.items()), start=1):
        current = digest(out, name)
        if current is None:
            yield Problem("missing", name, "the file is gone")
        elif current != exported:
            yield Problem("changed", name, "its bytes are not those that were exported")
        if progress and (done % 50 == 0 or done == len(listed)):
            progress(done, len(listed))
    for name in sorted(set(_names(out)) - set(listed) - {FACTS, CHECKSUMS}):
        yield Problem("extra", name, "the file is not part of the export")


def _names(out: str) -> Iterator[str]:
    if is_url(out):
        fs, root = filesystem(out)
        for path in fs.find(root):
            yield path.lstrip("/")[len(root.strip("/")) + 1 :]
        return
    for path in sorted(Path(out).rglob("*")):
        inside = path.relative_to(out)
        # ultralytics leaves labels/<split>.cache where it trained.
        used = is_litter(path.name) or path.suffix == ".cache"
        if not used and path.is_file() and not any((Path(out) / above).is_symlink() for above in inside.parents):
            yield inside.as_posix()


def _rows(data: bytes, counted: dict[str, int]) -> Iterator[Problem]:
    table = csv.DictReader(io.StringIO(data.decode("utf-8", "replace")))
    if tuple(table.fieldnames or ()) != COLUMNS:
        yield Problem("unreadable", IMAGES, f"its columns are {table.fieldnames}")
        return
    splits: dict[str, set[str]] = defaultdict(set)
    images: Counter[str] = Counter()
    for row in table:
        splits[row["unit"]].add(row["split"])
        images[row["split"]] += 1
    for unit, names in sorted(splits.items()):
        if len(names) > 1:
            yield Problem("split", unit, f"the group is in {' and '.join(sorted(names))}")
    if images != Counter(counted):
        yield Problem("split", IMAGES, f"it lists {dict(images)} images, {FACTS} states {counted}")
