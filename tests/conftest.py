"""Fixtures every test may use."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("us43d", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("us43d")


@pytest.fixture(autouse=True, scope="session")
def _quick_disk() -> Iterator[None]:
    """Nothing waits for the disk: no test cuts the power, and other programs' files would be waited for as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # still an error for what is not an open file
        patch.setattr(os, "sync", lambda: None)
        yield


@pytest.fixture
def shared() -> Path:
    """The folder of real files beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: the real files are kept beside the checkout, not in it")
    return folder


class ReversedListing:
    """What os.scandir gives, last entry first."""

    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self._entries = iter(entries[::-1])

    def __iter__(self) -> "ReversedListing":
        return self

    def __next__(self) -> os.DirEntry[str]:
        return next(self._entries)

    def __enter__(self) -> "ReversedListing":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is left open."""


@pytest.fixture
def reversed_listing(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders give their entries in reverse; returns the folders of two or more entries that were listed so."""
    listed: list[Path] = []
    scandir = os.scandir

    def reverse(path: Any = ".") -> ReversedListing:
        with scandir(path) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        if len(inside) > 1 and not isinstance(path, int):
            listed.append(Path(os.fspath(path)))
        return ReversedListing(inside)

    monkeypatch.setattr(os, "scandir", reverse)
    return listed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where one can be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)
