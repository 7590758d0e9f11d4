"""Real builds killed, doubled, refused by the disk or by what they read: no partial result, then the same one.

The sources are specimens; blocks are made small, so that a build has many. What a build may lose is what its workers
had in hand: one block each.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawTree
from us43d.errors import RawDataError, StorageError
from us43d.harmonize import blocks, records
from us43d.harmonize import build as building
from us43d.harmonize.build import BuildResult, build
from us43d.harmonize.check import check
from us43d.paths import Home

SPECIMEN = {"kind": "specimen"}
BLOCK = 8
#: Source → scale of its specimen: one whose files are kept, one whose frames are written.
SOURCES = {"busbra": 6, "echonet_dynamic": 8}

CHILD = """
import sys
from pathlib import Path
from us43d import registry
from us43d.errors import Busy
from us43d.harmonize import build as building
from us43d.paths import Home
slug, raw, home, jobs, building.BLOCK = sys.argv[1], Path(sys.argv[2]), Home(Path(sys.argv[3])), *map(int, sys.argv[4:])
recipe = registry.recipe(slug)
print("ready", flush=True)
try:
    print(building.build(recipe, raw, home, jobs=jobs, receipt={"kind": "specimen"}).digest)
except Busy:
    print("busy")
"""


class Source:
    """A specimen on disk, the digest of its build, and how many blocks and samples it has."""

    def __init__(self, slug: str, folder: Path) -> None:
        self.slug, self.raw = slug, folder / slug
        self.raw.mkdir()
        registry.specimen(slug)(self.raw, np.random.default_rng(0), SOURCES[slug])
        self.samples = sum(1 for _ in registry.recipe(slug).read(RawTree(self.raw)))
        self.blocks = -(-self.samples // BLOCK)
        self.digest = self.build(Home(folder / f"{slug}-home")).digest

    def build(self, home: Home, raw: Path | None = None) -> BuildResult:
        return build(registry.recipe(self.slug), raw or self.raw, home, receipt=SPECIMEN)

    def start(self, home: Home, jobs: int) -> subprocess.Popen[str]:
        """A process about to build."""
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, self.slug, str(self.raw), str(home.root), str(jobs), str(BLOCK)],
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    def folder(self, home: Home) -> Path:
        return home.builds(registry.recipe(self.slug).name)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "BLOCK", BLOCK)
        folder = tmp_path_factory.mktemp("sources")
        return {slug: Source(slug, folder) for slug in SOURCES}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "BLOCK", BLOCK)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the blocks that this process runs."""
    numbers: list[int] = []
    run = blocks.run

    def counted(block: blocks.Block) -> list[str]:
        numbers.append(block.number)
        return run(block)

    monkeypatch.setattr(blocks, "run", counted)
    return numbers


def finals(folder: Path) -> list[Path]:
    """Everything under a final name: what does not begin with a dot."""
    return [path for path in folder.glob("*") if not path.name.startswith(".")]


def whole_or_absent(source: Source, home: Home) -> bool:
    """Assert that no final name holds partial content; return whether the build is there."""
    there = finals(source.folder(home))
    for path in there:
        assert json.loads((path / "dataset.json").read_text())["digest"] == source.digest
        assert check(path) == []
    return bool(there)


def staged(source: Source, home: Home) -> tuple[int, int]:
    """(blocks with a record, each of them readable; images of blocks without one)."""
    folder = source.folder(home)
    files = folder.glob(f".*/{records.FOLDER}/*.jsonl")
    found = {path.stem: [records.parse(line) for _, line in records.lines(path)] for path in files}
    images = Counter(path.parent.name for path in folder.glob(f".*/{blocks.OUTPUT}/images/*/*"))
    for name, rows in found.items():
        assert images.get(name, 0) == sum(row.drop is None for row in rows)
    return len(found), sum(number for name, number in images.items() if name not in found)


def ends_well(source: Source, home: Home) -> None:
    """The next build has the digest that an undisturbed one has, and leaves nothing else."""
    result = source.build(home)
    assert result.digest == source.digest
    assert check(result.path) == []
    assert [path for path in source.folder(home).iterdir() if path.name != ".lock"] == [result.path]


# -------------------------------------------------------------------------------------------------------------- killed


def kill_and_go_on(sources: dict[str, Source], root: Path, ran: list[int], times: int) -> Counter[str]:
    """Kill builds at random moments, `times` times; return in which phase they were."""
    rng = np.random.default_rng(11)
    phases: Counter[str] = Counter()
    took: dict[tuple[str, int], float] = {}
    for number in range(times):
        source, jobs = list(sources.values())[number % 2], 1 + number // 2 % 2
        home = Home(root / str(number))
        if (source.slug, jobs) not in took:  # how long an undisturbed one takes here and now
            begun = time.perf_counter()
            process = source.start(Home(root / f"whole-{number}"), jobs)
            ready = time.perf_counter()
            assert process.communicate()[0].strip() == source.digest
            took[source.slug, jobs] = time.perf_counter() - ready
            assert ready > begun
        process = source.start(home, jobs)
        time.sleep(rng.uniform(0, 1.1 * took[source.slug, jobs]))
        with suppress(ProcessLookupError):  # alone, so that its workers go on for a moment, or with all of them
            (os.kill if number % 3 == 0 else os.killpg)(process.pid, signal.SIGKILL)
        process.communicate()
        there = whole_or_absent(source, home)
        done, begun_images = (source.blocks, 0) if there else staged(source, home)
        assert begun_images <= jobs * BLOCK, "more was begun than each worker's block"
        phases["ended" if there else "finishing" if done == source.blocks else "blocks" if done else "beginning"] += 1
        ran.clear()
        ends_well(source, home)
        # A worker whose parent alone was killed may have finished its block after the count.
        assert len(ran) <= source.blocks - done, "a finished block was run again"
        shutil.rmtree(home.root)
    return phases


def test_killed_builds_go_on(sources: dict[str, Source], tmp_path: Path, ran: list[int]) -> None:
    assert kill_and_go_on(sources, tmp_path, ran, 8).total() == 8


@pytest.mark.slow
def test_builds_killed_at_100_moments_go_on(sources: dict[str, Source], tmp_path: Path, ran: list[int]) -> None:
    phases = kill_and_go_on(sources, tmp_path, ran, 100)
    print(dict(phases))
    # On a machine with nothing else to do the start is most of so short a build.
    assert phases["blocks"] >= 10, f"the moments were not in the middle of builds: {dict(phases)}"


@pytest.mark.parametrize("step", ["finish", "replace_dir", "rmtree"])
def test_killed_between_the_last_steps(
    sources: dict[str, Source], tmp_path: Path, ran: list[int], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """As if killed before groups and shards, before the rename, and before the staging folder is removed."""

    class Killed(BaseException):
        pass

    def die(*args: object, **_: object) -> None:
        name = Path(str(args[0])).name
        if step != "rmtree" or (name.startswith(".") and ".old-" not in name):
            raise Killed

    source, home = sources["busbra"], Home(tmp_path)
    with monkeypatch.context() as patch:
        owner = {"finish": building, "replace_dir": building.atomic, "rmtree": building.shutil}[step]
        patch.setattr(owner, step, die)
        with pytest.raises(Killed):
            source.build(home)
    assert whole_or_absent(source, home) == (step == "rmtree")
    ran.clear()
    ends_well(source, home)
    assert ran == []


# ---------------------------------------------------------------------------------------------------------- two at once


def test_two_builds_of_one_source_at_once(sources: dict[str, Source], tmp_path: Path) -> None:
    source, home = sources["busbra"], Home(tmp_path)
    processes = [source.start(home, 2) for _ in range(2)]
    said = [process.communicate()[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert source.digest in said
    assert set(said) <= {source.digest, "busy"}
    assert whole_or_absent(source, home)
    ends_well(source, home)


# ------------------------------------------------------------------------------------------------------------ full disk


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A file system of `size` kB; what is yielded gives it another size. Skips where mounting is refused."""
    folder.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if not made or made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip() if made else 'no mount program'}")
    try:
        yield lambda more: subprocess.run([str(mount), "-o", f"remount,size={more}k", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.9, 0.97])
def test_full_disk(sources: dict[str, Source], tmp_path: Path, share: float, ran: list[int]) -> None:
    source = sources["busbra"]
    pages = 4 * sum(
        -(-path.stat().st_size // 4096) for path in source.folder(Home(source.raw.parent / "busbra-home")).rglob("*")
    )
    with small_disk(tmp_path / "disk", int(share * pages)) as grow:
        home = Home(tmp_path / "disk" / "home")
        with pytest.raises(StorageError, match="the disk is full"):
            source.build(home)
        assert not whole_or_absent(source, home)
        done, _ = staged(source, home)
        ran.clear()
        grow(16 * pages)
        ends_well(source, home)
        assert len(ran) == source.blocks - done


def test_files_that_may_not_grow(sources: dict[str, Source], tmp_path: Path) -> None:
    """The limit that a quota also hits, where no disk can be mounted: no file may be larger than a block's record."""
    source, home = sources["busbra"], Home(tmp_path)
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n" + CHILD
    done = subprocess.run(
        [sys.executable, "-c", limited, source.slug, str(source.raw), str(home.root), "1", str(BLOCK)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "StorageError" in done.stderr
    assert "the file would be too large" in done.stderr
    assert not whole_or_absent(source, home)
    ends_well(source, home)


# -------------------------------------------------------------------------------------------- refused and failing files


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose permissions count: those of another user, where the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=True)
        shutil.rmtree(folder)


def copied(source: Source, place: Path) -> Path:
    raw = place / "raw"
    raw.mkdir()
    registry.specimen(source.slug)(raw, np.random.default_rng(0), SOURCES[source.slug])
    return raw


def test_a_raw_file_that_may_not_be_read(sources: dict[str, Source], place: Path) -> None:
    source, home = sources["busbra"], Home(place / "home")
    raw = copied(source, place)
    image = raw / "BUSBRA" / "Images" / "bus_0005-l.png"
    image.chmod(0)
    with pytest.raises(RawDataError, match=r"bus_0005-l\.png cannot be read: Permission denied"):
        source.build(home, raw)
    assert not whole_or_absent(source, home)
    image.chmod(0o644)
    assert source.build(home, raw).digest == source.digest


def test_a_home_that_may_not_be_written(sources: dict[str, Source], place: Path, ran: list[int]) -> None:
    source, home = sources["busbra"], Home(place / "home")
    raw = copied(source, place)

    def once(block: blocks.Block) -> list[str]:
        if block.number == 4:
            (block.folder / blocks.OUTPUT / "images").chmod(0o555)
        return run(block)

    run = blocks.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "run", once)
        with pytest.raises(StorageError, match="Permission is denied"):
            source.build(home, raw)
    assert not whole_or_absent(source, home)
    (images,) = source.folder(home).glob(f".*/{blocks.OUTPUT}/images")
    images.chmod(0o755)
    ran.clear()
    assert source.build(home, raw).digest == source.digest
    assert ran == list(range(4, source.blocks))


@pytest.mark.parametrize("at", [1, 30, 119])
def test_reads_that_fail(
    sources: dict[str, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, ran: list[int]
) -> None:
    source, home = sources["busbra"], Home(tmp_path)
    read, count = Path.read_bytes, iter(range(1_000_000))

    def failing(path: Path) -> bytes:
        if path.suffix == ".png" and next(count) >= at:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        with pytest.raises(RawDataError, match=r"cannot be read: Input/output error"):
            source.build(home)
    assert not whole_or_absent(source, home)
    done, _ = staged(source, home)
    assert done == at // (2 * BLOCK), "blocks read before the fault are kept"
    ran.clear()
    ends_well(source, home)
    assert len(ran) == source.blocks - done
