"""Who is writing: names of temporary files tell whether their process still lives.

What a process that has ended left behind can be taken over; what a living one writes is never touched. A process on
another machine that shares the folder is neither: what it writes may be copied, not moved.
"""

import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

__all__ = ["abandoned", "claim", "ended"]

_TOKEN = re.compile(r"(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{6}")
_WEEK = 7 * 24 * 3600
_claimed: set[str] = set()


@cache
def _machine() -> str:
    """Return an id of this machine since its start and of its process name space (containers have their own)."""
    parts = [socket.gethostname()]
    for path, read in (("/proc/sys/kernel/random/boot_id", Path.read_text), ("/proc/self/ns/pid", os.readlink)):
        try:
            parts.append(str(read(Path(path))).strip())
        except OSError:
            parts.append("")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def _start(pid: int) -> int:
    """Return the start of a process, in the kernel's ticks; 0 if unknown, -1 if the process has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] == "Z" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def _lives(pid: int, start: int) -> bool:
    """Return whether the process that was started then still runs; in doubt, it does."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    now = _start(pid)
    return now != -1 and (0 in (now, start) or now == start)


@contextmanager
def claim() -> Iterator[str]:
    """Claim a token for the names of temporary files, until the end of the block."""
    token = f"{_machine()}-{os.getpid()}-{_start(os.getpid())}-{secrets.token_hex(3)}"
    _claimed.add(token)
    try:
        yield token
    finally:
        _claimed.discard(token)


def ended(name: str) -> bool | None:
    """Whether the process whose token is in `name` has ended; None if it ran on another machine, or has no token."""
    match = _TOKEN.search(name)
    if match is None or match["machine"] != _machine():
        return None
    pid, start = int(match["pid"]), int(match["start"])
    if pid == os.getpid() and _lives(pid, start):
        return match[0] not in _claimed
    return not _lives(pid, start)


def abandoned(path: Path) -> bool:
    """Whether a temporary file or folder may be removed: its process has ended, or nothing happened for a week."""
    state = ended(path.name)
    if state is None:
        try:
            return time.time() - path.stat().st_mtime > _WEEK
        except FileNotFoundError:
            return False
    return state
