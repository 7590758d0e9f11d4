"""Writing under a final name: what is on the disk, and in which order."""

import os
from pathlib import Path

import pytest

from us43d import atomic
from us43d.errors import Busy


@pytest.mark.parametrize("durable", [True, False])
def test_the_disk_has_the_data_before_the_final_name(
    tmp_path: Path, durable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut the name holds all of the file or is not there."""
    events: list[str] = []
    replace = Path.replace

    def synced(handle: int) -> None:
        assert os.fstat(handle).st_size == 3
        events.append("fsync")

    def renamed(path: Path, target: Path) -> Path:
        events.append(f"rename to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    atomic.write_bytes(tmp_path / "a", b"abc", durable=durable)
    assert events == ["fsync", "rename to a"][not durable :]
    assert (tmp_path / "a").read_bytes() == b"abc"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    first, second = (atomic.alone(tmp_path / ".lock", Busy(name)) for name in ("first", "second"))
    with first, pytest.raises(Busy, match="second"), second:
        pass
    with atomic.alone(tmp_path / ".lock", Busy("third")):
        pass
