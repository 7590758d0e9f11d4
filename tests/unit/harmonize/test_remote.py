"""Image files of a remote corpus come into the cache, and nowhere else."""

from pathlib import Path

import fsspec
import pytest

from us43d.errors import BuildError, UsageError
from us43d.harmonize import remote as remotes
from us43d.harmonize.remote import Remote


def test_a_name_that_leaves_the_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("US43D_CACHE", "../cache")
    (tmp_path / "private.txt").write_text("private")
    fsspec.filesystem("memory").pipe("/leaving/builds/a.png", b"image")
    remote = Remote("memory://leaving")
    assert remote.file("builds/a.png").read_bytes() == b"image"
    for name in ("builds/../../../../private.txt", "../../../private.txt", str(tmp_path / "private.txt")):
        with pytest.raises(BuildError, match="outside of it"):
            remote.file(name)


def test_how_much_the_cache_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("US43D_CACHE_GB", raising=False)
    assert remotes._limit() == 20_000_000_000
    for text, size in (("", 20_000_000_000), ("0.5", 500_000_000), ("1", 1_000_000_000)):
        monkeypatch.setenv("US43D_CACHE_GB", text)
        assert remotes._limit() == size
    for text in ("x", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("US43D_CACHE_GB", text)
        with pytest.raises(UsageError, match=f"US43D_CACHE_GB='{text}' is not a positive number"):
            remotes._limit()
