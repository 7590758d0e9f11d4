"""Processes that are killed, that meet, and whose disk gives up: the final names are absent or right."""

import errno
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from us43d.errors import Busy, StorageError
from us43d.fetch import ledger, owner, store
from us43d.fetch.fetch import fetch
from us43d.fetch.verify import verify
from us43d.paths import Home

COUNT, SIZE = 4, 400_000


class Runner:
    """Starts processes that fetch; see sources.main."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("sources.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, home: Home, base: str, **order: Any) -> int:
        assert self._process.stdin
        assert self._process.stdout
        line = json.dumps({"home": str(home.root), "base": base, "count": COUNT, "jobs": 2} | order)
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> int:
        """Exit code of the process started last; negative is the signal that killed it."""
        assert self._process.stdout
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    running = Runner()
    yield running
    running.close()


@pytest.fixture
def served(server: Any, loopback: ModuleType, sources: ModuleType) -> dict[str, bytes]:
    data = {f"{n}.zip": sources.archive(n, SIZE) for n in range(COUNT)}
    server.files |= {f"/{name}": loopback.Served(body, drip=(1 << 14, 0.004)) for name, body in data.items()}
    return data


def states(home: Home, source: Any) -> set[str]:
    return {finding.state for finding in verify(home, source)}


def absent_or_right(home: Home, data: dict[str, bytes]) -> None:
    folder = home.downloads("Loopback")
    for path in folder.glob("*.zip"):
        assert path.read_bytes() == data[path.name]
    raw = home.raw("Loopback")
    assert not raw.exists() or len(list(raw.rglob("*.bin"))) == 2 * COUNT


def kill_and_go_on(
    runner: Runner, server: Any, sources: ModuleType, served: dict[str, bytes], home: Home, after: float
) -> bool:
    """One process killed after some seconds, and one that ends well; returns whether the first had not ended before."""
    number = runner.start(home, server.base)
    time.sleep(after)
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)
    killed = runner.end()
    time.sleep(0.02)  # the server notices
    absent_or_right(home, served)
    folder = home.downloads("Loopback")
    done = {path.name for path in folder.glob("*.zip")}
    kept = {}
    for note in (folder / store.PARTS).glob("*.part.json"):
        part = note.with_suffix("")
        if part.exists():
            kept[json.loads(note.read_text())["name"]] = part.stat().st_size
    server.log.clear()
    source = sources.recipe(server.base, [{}] * COUNT)
    ledger.accept(home, source)
    fetch(source, home, sources.patient(), jobs=2)
    for name, body in served.items():
        asked = [each.start for each in server.asked(f"/{name}")]
        if name in done or kept.get(name) == len(body):
            assert asked == [], f"{name} was complete and is fetched again"
        else:
            assert asked == [kept.get(name, 0)], f"bytes of {name} that were there are fetched again"
    assert states(home, source) == {"ok"}
    absent_or_right(home, served)
    assert {path.name for path in folder.iterdir()} == {*served, ".lock", store.RECEIPT, "raw.sha256"}
    assert [path.name for path in home.raw("Loopback").parent.iterdir()] == ["Loopback"]
    return killed == -signal.SIGKILL


@pytest.mark.parametrize("times", [8, pytest.param(50, marks=pytest.mark.slow)], ids=["eight", "fifty"])
def test_sigkill(
    runner: Runner,
    server: Any,
    sources: ModuleType,
    served: dict[str, bytes],
    tmp_path: Path,
    times: int,
) -> None:
    whole = Home(tmp_path / "whole")
    begun = time.monotonic()
    runner.start(whole, server.base)
    assert runner.end() == 0
    lasts = time.monotonic() - begun
    rng = random.Random(times)
    killed = tries = 0
    while killed < times and tries < 4 * times:
        home = Home(tmp_path / str(tries))
        server.log.clear()
        after = rng.uniform(0, lasts)
        if kill_and_go_on(runner, server, sources, served, home, after):
            killed += 1
            lasts *= 1.05
        else:  # it had ended before; the machine is quicker now
            lasts = max(after, 0.05)
        tries += 1
        shutil.rmtree(home.downloads("Loopback"))
    print(f"{killed} processes killed, {tries - killed} had ended before")
    assert killed == times


def test_two_processes(runner: Runner, server: Any, sources: ModuleType, served: dict[str, bytes], home: Home) -> None:
    source = sources.recipe(server.base, [{}] * COUNT)
    ledger.accept(home, source)
    number = runner.start(home, server.base)
    while not (home.downloads("Loopback") / store.PARTS).exists():
        time.sleep(0.005)
    with pytest.raises(Busy, match="Loopback is being fetched by another process"):
        fetch(source, home, sources.patient())
    assert runner.end() == 0
    assert number
    assert all(server.sent(f"/{name}") == len(body) for name, body in served.items())
    assert fetch(source, home, sources.patient()).state == "already there"


def test_two_processes_without_locks(
    runner: Runner, server: Any, sources: ModuleType, served: dict[str, bytes], home: Home,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A file system whose locks do nothing: each works for itself, and both end well."""
    monkeypatch.setattr("filelock.FileLock.acquire", lambda self, **_: None)
    source = sources.recipe(server.base, [{}] * COUNT)
    ledger.accept(home, source)
    runner.start(home, server.base, lockless=True)
    fetch(source, home, sources.patient())
    assert runner.end() == 0
    absent_or_right(home, served)
    assert states(home, source) == {"ok"}


def test_a_note_without_its_part_is_removed(
    server: Any, sources: ModuleType, served: dict[str, bytes], home: Home
) -> None:
    """A process killed between the two steps that finish a file leaves the note of its part behind."""
    source = sources.recipe(server.base, [{}] * COUNT)
    folder = home.downloads("Loopback") / store.PARTS
    folder.mkdir(parents=True)
    with owner.claim() as token:
        (folder / f"0.{token}.aaaaaa.part.json").write_text("{}")
    ledger.accept(home, source)
    fetch(source, home, sources.patient(), jobs=2)
    assert not folder.exists()


@pytest.mark.parametrize("names", [("BUSI",), ("BUSI", "BUID")], ids=["one source", "two side by side"])
def test_sigterm_and_ctrl_c(server: Any, served: dict[str, bytes], tmp_path: Path, names: tuple[str, ...]) -> None:
    """The command itself, interrupted: exit code 130, one message, and what arrived is kept."""
    whole = served["0.zip"]
    server.files["/0.zip"].drip = (1 << 12, 0.05)
    for path in ("/Dataset_BUSI.zip", *(f"/wp-content/uploads/2022/11/{n}.zip" for n in ("Benign", "Malignant"))):
        server.files[path] = server.files["/0.zip"]
    hosts = ",".join(f"{host}={server.base}" for host in ("scholar.cu.edu.eg", "qamebi.com"))
    environment = os.environ | {"US43D_HOME": str(tmp_path / "home"), "US43D_HOSTS": hosts}
    command = [sys.executable, "-m", "us43d", "fetch", *names, "--accept-licence", "all"]
    parts = tmp_path / "home" / "downloads" / "BUSI" / store.PARTS
    for number in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        before = server.sent("/Dataset_BUSI.zip")
        while server.sent("/Dataset_BUSI.zip") < before + 30_000:
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130, said
        assert "Downloaded data are kept" in said
        assert "Traceback" not in said
    assert not (parts.parent / "Dataset_BUSI.zip").exists()
    (part,) = parts.glob("*.part")
    assert whole.startswith(part.read_bytes())
    assert server.asked("/Dataset_BUSI.zip")[-1].start > 20_000


# ------------------------------------------------------------------------------------------------------------ the disk


def test_full_disk(
    server: Any, sources: ModuleType, served: dict[str, bytes], small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program fills the disk after the room was checked."""
    monkeypatch.setattr(store, "check_room", lambda *_: None)
    home = Home(small_disk / "home")
    source = sources.recipe(server.base, [{}] * COUNT)
    ledger.accept(home, source)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    with pytest.raises(StorageError, match="the disk is full") as caught:
        fetch(source, home, sources.patient())
    assert "kept" in caught.value.disk
    absent_or_right(home, served)
    assert not home.raw("Loopback").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    kept = sum(path.stat().st_size for path in (home.downloads("Loopback") / store.PARTS).glob("*.part"))
    kept += sum(path.stat().st_size for path in home.downloads("Loopback").glob("*.zip"))
    assert kept > 300_000
    server.log.clear()
    fetch(source, home, sources.patient())
    assert states(home, source) == {"ok"}
    assert sum(server.sent(f"/{name}") for name in served) == sum(map(len, served.values())) - kept


def test_file_too_large_for_the_disk(server: Any, sources: ModuleType, served: dict[str, bytes], home: Home) -> None:
    source = sources.recipe(server.base, [{}] * COUNT)
    ledger.accept(home, source)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StorageError, match="the file would be too large"):
            fetch(source, home, sources.patient())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    absent_or_right(home, served)
    server.log.clear()
    fetch(source, home, sources.patient())
    assert all(each.start == 100_000 for each in server.log if each.start)
    assert states(home, source) == {"ok"}


def test_too_little_room_is_seen_before(
    server: Any, sources: ModuleType, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sources.recipe(server.base, [{"size": 10**15}])
    ledger.accept(home, source)
    with pytest.raises(StorageError, match=r"Loopback \(1,000,000.0 GB, .*needs 2,000,000.0 GB.* free") as caught:
        fetch(source, home, sources.patient())
    assert "us43d clean" in caught.value.next
    assert server.log == []


def test_room_for_a_file_of_unpublished_size(
    server: Any, sources: ModuleType, served: dict[str, bytes], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's answer says how long the file is; nothing of it is written where it cannot be unpacked."""
    source = sources.recipe(server.base, [{}] * COUNT)
    ledger.accept(home, source)
    usage = shutil.disk_usage(home.root)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StorageError, match=r"GB, and as much unpacked\) needs .*, and .* has 0.0 GB free"):
        fetch(source, home, sources.patient())
    assert server.log
    assert not (home.downloads("Loopback") / store.PARTS).exists()
    monkeypatch.undo()
    fetch(source, home, sources.patient())
    assert states(home, source) == {"ok"}


def test_read_only_home(server: Any, sources: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() != 0:
        (tmp_path / "home").mkdir(mode=0o500)
        home = Home(tmp_path / "home")
        with pytest.raises(StorageError, match="permission is denied"):
            ledger.accept(home, sources.recipe(server.base))
        return
    # The superuser is let in everywhere but to a file system that is read-only.
    place = tmp_path / "home"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no read-only file system can be mounted here: {done.stderr.strip()}")
    try:
        source = sources.recipe(server.base)
        with pytest.raises(StorageError, match="the file system is read-only"):
            ledger.accept(Home(place), source)
        monkeypatch.setattr(ledger, "require", lambda *_: {})
        with pytest.raises(StorageError, match="the file system is read-only"):
            fetch(source, Home(place), sources.patient())
    finally:
        subprocess.run(["umount", place], check=True)
    assert server.log == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_home_without_locks(
    server: Any, sources: ModuleType, home: Home, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Drives of a network may have none; that is no bug of us43d, and another folder helps."""

    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    source = sources.recipe(server.base)
    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StorageError, match="locks"):
        ledger.accept(home, source)
    monkeypatch.setattr(ledger, "require", lambda *_: {})
    with pytest.raises(StorageError, match="locks") as caught:
        fetch(source, home, sources.patient())
    assert "US43D_HOME" in caught.value.next
    assert server.log == []


def test_hash_is_of_what_lies_on_disk(server: Any, sources: ModuleType, served: dict[str, bytes], home: Home) -> None:
    source = sources.recipe(server.base, [{}] * COUNT)
    ledger.accept(home, source)
    fetch(source, home, sources.patient())
    entries = store.receipt(home, "Loopback")["files"]
    assert {name: entry["sha256"] for name, entry in entries.items()} == {
        name: hashlib.sha256(body).hexdigest() for name, body in served.items()
    }
