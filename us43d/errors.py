"""Every exception of the project, in one tree.

    Us43dError                    exit 1   a known failure
    ├── UsageError                exit 2   an invalid name, option or configuration
    │   ├── UnknownName                    unknown source, release or preset (with suggestions)
    │   └── ConfigError                    a training or build setting with an impossible value
    ├── RecipeError                        a recipe contradicts the contract
    ├── RawDataError                       the raw tree is not what the recipe describes
    │   ├── MissingRawFile                 a file the recipe needs is not there
    │   │   └── MissingFolder              no folder has one of the names the recipe knows
    │   ├── UnreadableFile                 a file is there but corrupt, truncated or of another type
    │   └── MaskMismatch                   a mask does not fit its image and no rule covers it
    ├── CountError                         fewer images or masks than published
    ├── BuildError                         harmonizing or merging failed
    ├── CheckError                         built output is not what its manifest says
    ├── SplitError                         a split leaks, or a pinned split cannot be reproduced
    ├── FetchError                         a download failed
    │   └── VerifyError                    what arrived has another size, digest or type
    ├── ArchiveError                       an archive is hostile, encrypted or unsupported
    │   └── DamagedArchive                 an archive is truncated or damaged
    ├── LicenceError              exit 4   a licence was not accepted, or forbids the use asked for
    ├── ManualFileError           exit 4   files that a person must obtain are missing
    │   └── LoginError                     a host wants an account, or its rules accepted, first
    ├── Busy                               another process works on the same thing
    ├── StorageError                       disk full, no permission, vanished drive
    ├── ImageError                         an image given by the user cannot be used
    ├── WeightsError                       a weights file is unreadable, unsafe or of another model
    ├── TrainError                         training cannot continue (NaN loss, corrupt shard)
    └── SomeFailed                exit 3   some of several sources failed

An error is one sentence on what is wrong with which value, one on what was done to the disk, and one
command to run next.
"""

import shlex
from collections.abc import Iterable, Sequence

__all__ = [
    "ASTRAY", "ArchiveError", "BuildError", "Busy", "CheckError", "ConfigError", "CountError",
    "DamagedArchive", "FetchError", "ImageError", "LicenceError", "LoginError", "ManualFileError", "MaskMismatch",
    "MissingFolder", "MissingRawFile", "RawDataError", "RecipeError", "SomeFailed", "SplitError", "StorageError",
    "TrainError", "UnknownName", "UnreadableFile", "Us43dError", "UsageError", "VerifyError", "WeightsError", "command",
    "counted", "listed",
]  # fmt: skip


#: What a reader raises where a name or a table of another form than the source's leads it astray.
ASTRAY = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def listed(items: Iterable[object], limit: int = 20) -> str:
    """Join items with commas, at most `limit` of them, then the count of the rest."""
    names = [str(item) for item in items]
    more = f" … and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def counted(number: int, one: str, many: str = "") -> str:
    """Return "1 file" or "2 files". many: other than `one` with an s, as in "masks are empty"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def lines_of(entries: Sequence[str], limit: int = 20) -> str:
    """Return the first `limit` entries, each on a line of its own, and the number of the rest."""
    rest = [f"… and {len(entries) - limit} more"] if len(entries) > limit else []
    return "".join(f"\n  {line}" for line in [*entries[:limit], *rest])


def command(*words: object) -> str:
    """Return a us43d command line that works as printed: a word with a space or a bracket is quoted."""
    return shlex.join(["us43d", *map(str, words)])


class Us43dError(Exception):
    """A known failure.

    what: one sentence, what is wrong with which value.
    disk: one sentence, what was done to the disk.
    next: one command (or action) to run next; empty if none is known.
    """

    exit_code = 1

    def __init__(self, what: str, *, disk: str = "Nothing was changed on disk.", next: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.disk = disk
        self.next = next

    def __str__(self) -> str:
        return "\n".join(line for line in (self.what, self.disk, f"Next: {self.next}" if self.next else "") if line)

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes send errors home by pickle, which would otherwise lose disk and next.
        return (_rebuild, (type(self), self.what, self.disk, self.next))


def _rebuild(kind: type[Us43dError], what: str, disk: str, next: str) -> Us43dError:
    return kind(what, disk=disk, next=next)


class UsageError(Us43dError):
    exit_code = 2


class UnknownName(UsageError):
    pass


class ConfigError(UsageError):
    pass


class RecipeError(Us43dError):
    pass


class RawDataError(Us43dError):
    pass


class MissingRawFile(RawDataError):
    pass


class MissingFolder(MissingRawFile):
    #: The names.
    folders: tuple[str, ...] = ()


class UnreadableFile(RawDataError):
    pass


class MaskMismatch(RawDataError):
    pass


class CountError(Us43dError):
    pass


class BuildError(Us43dError):
    pass


class CheckError(Us43dError):
    pass


class SplitError(Us43dError):
    pass


class FetchError(Us43dError):
    pass


class VerifyError(FetchError):
    pass


class ArchiveError(Us43dError):
    pass


class DamagedArchive(ArchiveError):
    pass


class LicenceError(Us43dError):
    exit_code = 4


class ManualFileError(Us43dError):
    exit_code = 4


class LoginError(ManualFileError):
    pass


class Busy(Us43dError):
    pass


class StorageError(Us43dError):
    pass


class ImageError(Us43dError):
    pass


class WeightsError(Us43dError):
    pass


class TrainError(Us43dError):
    pass


class SomeFailed(Us43dError):
    exit_code = 3
