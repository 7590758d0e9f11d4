"""Damaged files of every format. A reader may do two things with one: read it, or raise a Us43dError of three lines.

Readers run in a process of their own, so that a crash of a decoder, a hang or memory without bound is seen as well.
"""

import os
import resource
import shutil
import signal
import sys
import time
import traceback
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from us43d.errors import Us43dError

from . import corpus

#: Seconds of CPU time that one file may take (ten times as many by the clock, as the machine may be busy), and bytes.
SECONDS, MEMORY = 60, 2 << 30


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("fuzz") / "sound"
    return folder, corpus.files(folder)


def judged(path: Path, truth: list[object] | None) -> str:
    """What is wrong with how the readers take a file; "" if nothing is."""
    try:
        result = corpus.read(path)
    except Us43dError as error:
        return "" if len(str(error).splitlines()) <= 3 else f"a message of more than three lines: {error}"
    except Exception as error:  # noqa: BLE001  (this is what must not happen, whatever it is)
        return f"a bug: {error!r:.300}"
    return "" if truth is None or corpus.equal(result, truth) else "other content, though a checksum covers it"


def tried(folder: Path, name: str, sound: dict[str, bytes], seed: int, count: int, work: Path) -> list[str]:
    """Run `count` mutations of one format in a process; what went wrong."""
    rng = np.random.default_rng([seed, *name.encode()])
    cases = list(islice(corpus.mutations(sound, name, rng), count))
    said, faults = work / "said", []
    at = 0
    while at < len(cases):
        said.write_bytes(b"")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _run(folder, name, cases[at:], work, said)
                code = 0
            except Exception:  # noqa: BLE001  (a forked test must not go on as pytest)
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        lines = said.read_text("utf-8").splitlines()
        faults += [line.partition("\t")[2] for line in lines if line.startswith("fault")]
        done = sum(not line.startswith("fault") for line in lines)
        assert done, f"{name}: the sound file cannot be read"
        at += done
        if (code := os.waitstatus_to_exitcode(status)) != 0:
            slow = code in (-signal.SIGPROF, -signal.SIGALRM)
            what = f"over {SECONDS} s" if slow else f"ended by {code}"
            faults.append(f"{name}, {cases[at - 1][0]}: {what}")
    return [f"seed {seed}: {fault}" for fault in faults]


def _run(folder: Path, name: str, cases: list[tuple[str, bytes]], work: Path, said: Path) -> None:
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)  # decoders write to it
    truth = corpus.read(fresh(folder, name, None, work)) if name in corpus.CHECKED else None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with said.open("a", encoding="utf-8", buffering=1) as log:
        for what, data in cases:
            print("next", file=log)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
            fault = judged(fresh(folder, name, data, work), None if what.startswith(corpus.REPLACED) else truth)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
            if grown > MEMORY:
                fault, peak = fault or f"{grown:,} bytes of memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if fault:
                print("fault", f"{name}, {what}: {' '.join(fault.split())}", sep="\t", file=log)


def fresh(folder: Path, name: str, data: bytes | None, work: Path) -> Path:
    """A folder of the file alone, with what belongs to it; under another path each time, as readers remember files."""
    shutil.rmtree(work / "case", ignore_errors=True)
    place = work / "case" / str(time.monotonic_ns())
    place.mkdir(parents=True)
    if name.endswith(".mhd"):
        shutil.copy(folder / name.replace(".mhd", ".raw"), place)
    (place / name).write_bytes((folder / name).read_bytes() if data is None else data)
    return place / name


def test_sound_files_are_read(sound: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    for name in set(corpus.FORMATS) - {"a.safetensors", "a.pth"}:  # of no model
        assert corpus.read(fresh(sound[0], name, None, tmp_path)), name


def test_a_fault_is_seen(sound: tuple[Path, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def attempts(act: object) -> list[str]:
        monkeypatch.setattr(corpus, "read", act)
        return tried(sound[0], "a.csv", sound[1], 0, 2, tmp_path)

    assert len(attempts(lambda path: {}["x"])) == 2
    assert len(attempts(lambda path: os.kill(os.getpid(), signal.SIGKILL))) == 2
    monkeypatch.setattr(sys.modules[__name__], "SECONDS", 0.2)
    for busy in (lambda path: time.sleep(99), lambda path: all(n == 0 for n in iter(int, 1))):
        assert ["over 0.2 s" in fault for fault in attempts(busy)] == [True, True]
    assert attempts(lambda path: []) == []


@pytest.mark.parametrize("name", corpus.FORMATS)
def test_damaged_files_give_content_or_a_message(
    name: str, sound: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    assert not (faults := tried(*sound[:1], name, sound[1], 43, 12, tmp_path)), "\n".join(faults)


@pytest.mark.slow
def test_for_as_long_as_asked(sound: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    """FUZZ_SECONDS (60) from seed FUZZ_SEED (0) on; `make fuzz` asks for an hour."""
    end, seed = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "60")), int(os.environ.get("FUZZ_SEED", "0"))
    faults, files = [], 0
    while time.monotonic() < end:
        for name in corpus.FORMATS:
            faults += tried(sound[0], name, sound[1], seed, 40, tmp_path)
            files += 40
        seed += 1
    print(f"{files:,} files, seeds up to {seed}, {len(faults)} faults")
    assert not faults, "\n".join(faults)
