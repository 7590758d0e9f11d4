"""The patient in the path of a file, found by a regular expression that the user states."""

import re
import unicodedata

from us43d.errors import UsageError

__all__ = ["patient_in"]


def patient_in(path: str, pattern: str | None, option: str, *, next: str) -> str | None:
    """Return the first group of a pattern in a path, or the whole match of one without groups; None if absent or empty.

    Args:
        path: Below the folder that was given.
        pattern: Regular expression. None finds nothing.
        option: That stated the pattern.
        next: Command for a pattern that is invalid.

    Raises:
        UsageError: The pattern is not a regular expression.
    """
    if pattern is None:
        return None
    try:
        match = re.search(unicodedata.normalize("NFC", pattern), unicodedata.normalize("NFC", path))  # as of macOS
    except re.error as error:
        raise UsageError(f"Invalid {option} {pattern!r}: {error}.", next=next) from error
    return None if match is None else match[1 if match.re.groups else 0] or None
