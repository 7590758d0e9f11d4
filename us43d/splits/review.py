"""What people decided: <home>/review/verdicts.jsonl, one line per verdict or fix, only ever appended to.

    {"id": "…", "when": "2026-11-28T18:00:00Z", "who": "…", "kind": "near", "verdict": "same",
     "a": {"source": "<slug>", "key": "…", "picture": "<pixel hash>"}, "b": {…} or null}
    {"id": "…", "when": "…", "who": "…", "fix": {"source": "<slug>", "key": "…", "picture": "<pixel hash>"},
     "replaces": "<digest of the raw masks>", "masks": [{"structure": "…", "rle": "…"}]}
    {"id": "…", "when": "…", "who": "…", "undo": "<id of a verdict or fix>"}

Of several verdicts on one thing, or fixes of one image, the last one that was not undone holds. Verdicts on
near-duplicate pairs ("same", "not the same", "unsure") change the links that builds and corpora apply; a verdict holds
for the images that were compared. Fixes replace masks in builds, and an image whose masks a verdict calls wrong is
excluded until they are corrected (`us43d.harmonize.corrections`).
"""

import getpass
import json
import os
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from us43d import atomic
from us43d.errors import BuildError, UsageError

__all__ = [
    "APPLIED", "KINDS", "WRONG", "Fix", "Mask", "Pair", "Picture", "Verdict", "append", "append_fix", "applied",
    "decided", "export", "fixes", "import_file", "log", "path", "reviewer", "undo", "wrong",
]  # fmt: skip

#: Kind of thing → the verdicts it takes.
KINDS: dict[str, tuple[str, ...]] = {
    "near": ("same", "not the same", "unsure"),
    "conflict": ("first is wrong", "second is wrong", "both are fine", "unsure"),
    "mask": ("wrong", "fine", "unsure"),
    "prediction": ("truth is wrong", "prediction is wrong", "unsure"),
}
#: Kind and verdict → which of its images has masks that are wrong.
_WRONG = {
    ("conflict", "first is wrong"): "a", ("conflict", "second is wrong"): "b", ("mask", "wrong"): "a",
    ("prediction", "truth is wrong"): "a",
}  # fmt: skip
#: Kinds and verdicts that change builds.
APPLIED = frozenset({("near", "same"), ("near", "not the same"), *_WRONG})
#: Remark in the manifest on an image that such a verdict excludes.
WRONG = "masks marked wrong in review"
#: Bytes of a file that is imported.
_LARGEST = 256 << 20


class Picture(NamedTuple):
    """An image: its source's slug, its key, its pixel hash."""

    source: str
    key: str
    picture: str


#: Two images, the smaller first, or one and None.
Pair = tuple[Picture, Picture | None]


class Verdict(NamedTuple):
    """One line of the log that holds."""

    id: str
    when: str
    who: str
    kind: str
    verdict: str
    a: Picture
    b: Picture | None

    @property
    def about(self) -> tuple[str, Pair]:
        """What the verdict is about, whichever image was named first."""
        if self.b is None:
            return self.kind, (self.a, None)
        low, high = sorted((self.a, self.b))
        return self.kind, (low, high)


class Mask(NamedTuple):
    """One object of a fix. rle: compressed run lengths at the image's size."""

    structure: str
    rle: str


class Fix(NamedTuple):
    """The masks a person gave an image. replaces: digest of the masks that the source's reader yields."""

    id: str
    when: str
    who: str
    image: Picture
    replaces: str
    masks: tuple[Mask, ...]


def path(home: Path) -> Path:
    """Return the log of a home."""
    return home / "review" / "verdicts.jsonl"


def reviewer() -> str:
    """Return the name that verdicts are signed with: $US43D_REVIEWER, else that of the user."""
    return os.environ.get("US43D_REVIEWER") or getpass.getuser()


def log(home: Path) -> list[dict[str, Any]]:
    """Read all lines, undone ones too. Raises BuildError for a line that is damaged.

    A last line without its end is what a process that was killed left; it was never confirmed and is ignored.
    """
    file = path(home)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BuildError(f"{file} cannot be read: {error.strerror}.", next="us43d doctor") from error
    lines = data.split(b"\n")[:-1]
    entries = []
    for number, line in enumerate(lines, 1):
        if line:
            try:
                entries.append(_checked(json.loads(line)))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise BuildError(
                    f"Line {number} of {file} is damaged: {error!r}.", next=f"correct or delete line {number} of {file}"
                ) from error
    return entries


def _checked(entry: Any) -> dict[str, Any]:
    """Return an entry with the fields it must have. Raises ValueError, KeyError, TypeError."""
    own = ("undo",) if "undo" in entry else ("replaces",) if "fix" in entry else ("kind", "verdict")
    texts = ["id", "when", "who", *own]
    if any(not isinstance(entry[name], str) for name in texts):
        raise ValueError(f"{', '.join(texts)} are texts")
    kept = {name: entry[name] for name in texts}
    if "undo" in entry:
        return kept
    if "fix" in entry:
        masks = [_texts(Mask(**mask))._asdict() for mask in entry["masks"]]
        return kept | {"fix": _texts(Picture(**entry["fix"]))._asdict(), "masks": masks}
    if entry["verdict"] not in KINDS.get(entry["kind"], ()):
        raise ValueError(f"{entry['verdict']!r} is not a verdict on {entry['kind']!r}")
    for name in ("a", "b"):
        if entry[name] is not None or name == "a":
            _texts(Picture(**entry[name]))
    return kept | {"a": entry["a"], "b": entry["b"]}


def _texts(record: Any) -> Any:
    """Return the record, if all its fields are texts. Raises ValueError."""
    if not all(isinstance(value, str) for value in record):
        raise ValueError(f"{', '.join(record._fields)} are texts")
    return record


def decided(home: Path) -> list[Verdict]:
    """Read the verdicts that hold, in the order they were given. Raises BuildError."""
    return _verdicts(_standing(home))


def _verdicts(entries: Iterable[dict[str, Any]]) -> list[Verdict]:
    verdicts: dict[tuple[str, Pair], Verdict] = {}
    for entry in entries:
        if "verdict" in entry:
            other = Picture(**entry["b"]) if entry["b"] else None
            verdict = Verdict(
                entry["id"], entry["when"], entry["who"], entry["kind"], entry["verdict"], Picture(**entry["a"]), other
            )
            verdicts.pop(verdict.about, None)
            verdicts[verdict.about] = verdict
    return list(verdicts.values())


def fixes(home: Path) -> dict[tuple[str, str], Fix]:
    """Read the fixes that hold, by source and key. Raises BuildError."""
    return _fixes(_standing(home))


def _fixes(entries: Iterable[dict[str, Any]]) -> dict[tuple[str, str], Fix]:
    by_image = {}
    for entry in entries:
        if "fix" in entry:
            image = Picture(**entry["fix"])
            masks = tuple(Mask(**mask) for mask in entry["masks"])
            by_image[image.source, image.key] = Fix(
                entry["id"], entry["when"], entry["who"], image, entry["replaces"], masks
            )
    return by_image


def wrong(home: Path) -> dict[tuple[str, str], tuple[Picture, Verdict]]:
    """Read which images have masks that a verdict calls wrong, by source and key; a fix made later settles it.

    Raises BuildError.
    """
    entries = _standing(home)
    turn = {entry["id"]: n for n, entry in enumerate(entries)}
    corrected = _fixes(entries)
    marked = {}
    for verdict in _verdicts(entries):
        end = _WRONG.get((verdict.kind, verdict.verdict))
        image = verdict.a if end == "a" else verdict.b if end == "b" else None
        if image is not None:
            fix = corrected.get(image[:2])
            if fix is None or fix.image != image or turn[fix.id] < turn[verdict.id]:
                marked[image.source, image.key] = image, verdict
    return marked


def _standing(home: Path) -> list[dict[str, Any]]:
    """Return verdicts and fixes that were not undone, in the order they were given."""
    entries = log(home)
    undone = {entry["undo"] for entry in entries if "undo" in entry}
    return [entry for entry in entries if "undo" not in entry and entry["id"] not in undone]


def applied(links: Iterable[tuple[Any, Any]], home: Path) -> set[tuple[Picture, Picture]]:
    """Apply verdicts to links (pairs of images): "same" adds a pair, "not the same" removes one.

    Two images that others tie together stay in one group all the same. Raises BuildError for a damaged log.
    """
    pairs = {(Picture(*a), Picture(*b)) for a, b in links}
    for verdict in decided(home):
        if verdict.kind == "near" and verdict.b is not None and verdict.verdict != "unsure":
            pairs -= {(verdict.a, verdict.b), (verdict.b, verdict.a)}
            if verdict.verdict == "same":
                low, high = sorted((verdict.a, verdict.b))
                pairs.add((low, high))
    return pairs


def append(home: Path, kind: str, verdict: str, a: Picture, b: Picture | None, who: str | None = None) -> str:
    """Record a verdict; returns its id. Raises UsageError for a verdict the kind does not take, StorageError."""
    if verdict not in KINDS.get(kind, ()):
        raise UsageError(f"{verdict!r} is not a verdict on {kind!r}: {', '.join(KINDS.get(kind, ()))}.")
    about = {"kind": kind, "verdict": verdict, "a": a._asdict(), "b": b._asdict() if b else None}
    return _append(home, [_signed(who) | about])[0]


def append_fix(home: Path, image: Picture, replaces: str, masks: Iterable[Mask]) -> str:
    """Record the masks of an image; returns the line's id. Raises StorageError."""
    about = {"fix": image._asdict(), "replaces": replaces, "masks": [mask._asdict() for mask in masks]}
    return _append(home, [_signed() | about])[0]


def undo(home: Path, line: str, who: str | None = None) -> str:
    """Take a verdict or fix back; returns the id of that line. Raises UsageError if no such line holds."""
    if line not in {*(v.id for v in decided(home)), *(fix.id for fix in fixes(home).values())}:
        raise UsageError(f"No verdict or fix {line!r} holds in {path(home)}.")
    return _append(home, [_signed(who) | {"undo": line}])[0]


def _signed(who: str | None = None) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"id": uuid.uuid4().hex, "when": now, "who": who or reviewer()}


def _append(home: Path, entries: Iterable[dict[str, Any]]) -> list[str]:
    entries = list(entries)
    file = path(home)
    lines = b"".join(json.dumps(entry, ensure_ascii=False, sort_keys=True).encode() + b"\n" for entry in entries)
    with atomic.storage_errors(file, "Verdicts recorded before are complete."):
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(".lock")), file.open("ab+", buffering=0) as stream:
            end = stream.seek(0, os.SEEK_END)
            if end:
                stream.seek(end - 1)
                if stream.read(1) != b"\n":  # left by a process that was killed
                    end = stream.truncate(end - len(file.read_bytes().rpartition(b"\n")[2]))
            try:
                written = 0
                while written < len(lines):  # a disk that becomes full takes a part first
                    written += stream.write(lines[written:])
                os.fsync(stream.fileno())
            except OSError:  # none of them, rather than some
                stream.truncate(end)
                raise
    return [str(entry["id"]) for entry in entries]


def export(home: Path) -> bytes:
    """Return the verdicts and fixes of a home, with what was undone, as a file to send to others. Raises BuildError."""
    return b"".join(json.dumps(entry, ensure_ascii=False, sort_keys=True).encode() + b"\n" for entry in log(home))


def import_file(home: Path, file: Path) -> tuple[int, int]:
    """Append the verdicts and fixes of another's file; returns (how many are new, how many were known).

    Raises UsageError for a file that is not one of verdicts; nothing of it is taken then. StorageError.
    """
    known = {entry["id"] for entry in log(home)}
    entries: dict[str, dict[str, Any]] = {}
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST >> 20} MiB")
        for line in file.read_bytes().splitlines():
            if line.strip():
                entry = _checked(json.loads(line))
                entries[entry["id"]] = entry
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UsageError(f"{file} is not a file of verdicts: {reason}.", next="us43d review export --help") from error
    new = [entry for name, entry in entries.items() if name not in known]
    if new:
        _append(home, new)
    return len(new), len(entries) - len(new)
