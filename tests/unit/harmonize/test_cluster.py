"""Blocks on a cluster: Dask is a stand-in here; with its own processes in tests/faults/build/test_cluster.py."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from us43d.contract import Sample
from us43d.errors import BuildError, ConfigError
from us43d.harmonize import blocks, cluster

KEPT = "The finished blocks are kept; the next build resumes from them."


class Killed(Exception):
    """A block was lost."""


class Future:
    def __init__(self, value: Any) -> None:
        self.value = value

    def result(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class Client:
    """Runs a block when it is submitted."""

    made: list[Any] = []  # noqa: RUF012
    threads: dict[str, int] = {"one": 1, "two": 2}  # noqa: RUF012
    fails: Exception | None = None

    def __init__(self, *where: Any, **how: Any) -> None:
        if self.fails:
            raise self.fails
        self.made.append((where, how))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.made.append("closed")

    def nthreads(self) -> dict[str, int]:
        return self.threads

    def submit(self, run: Any, block: Any, **how: Any) -> Future:
        assert how == {"pure": False}, "a block is run, whatever was run before"
        try:
            return Future(run(block))
        except Killed as error:
            return Future(error)


class Completed:
    def __init__(self) -> None:
        self.futures: list[Future] = []

    def add(self, future: Future) -> None:
        self.futures.append(future)

    def __next__(self) -> Future:
        return self.futures.pop()


class Cluster(Client):
    fails = None


@pytest.fixture
def dask(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    module: Any = ModuleType("distributed")
    module.Client, module.KilledWorker, module.LocalCluster, module.as_completed = Client, Killed, Cluster, Completed
    monkeypatch.setitem(sys.modules, "distributed", module)
    monkeypatch.setattr(Client, "made", [])
    monkeypatch.setattr(blocks, "run", lambda block: [f"wrong {block.number}"])
    return Client


def run(executor: str, number: int, jobs: int = 3) -> tuple[list[tuple[int, list[str]]], list[int]]:
    """Return what was noted of blocks, and how many were handed over and not noted at each."""
    noted: list[tuple[int, list[str]]] = []
    ahead: list[int] = []

    def todo() -> Iterator[blocks.Block]:
        for n in range(number):
            ahead.append(n - len(noted))
            samples = ((1, Sample(key="k", image=Path("k"))),) * (n + 1)
            yield blocks.Block(n, Path(), samples, blocks.Options({}, False))

    cluster.runner(executor, jobs)(todo(), lambda *done: noted.append(done))
    return noted, ahead


def test_blocks_run_on_a_scheduler(dask: type[Client]) -> None:
    noted, ahead = run("dask://host:8786", 20)
    assert sorted(noted) == [(n + 1, [f"wrong {n}"]) for n in range(20)]
    assert max(ahead) == 2 * (1 + 2)
    assert dask.made == [(("tcp://host:8786",), {"timeout": "5s"}), "closed"]
    dask.threads, threads = {}, dask.threads  # workers that are still to come
    try:
        assert max(run("dask://host:8786", 9)[1]) == 2
    finally:
        dask.threads = threads


def test_blocks_run_on_local_processes(dask: type[Client]) -> None:
    assert sorted(run("dask://local", 2)[0]) == [(1, ["wrong 0"]), (2, ["wrong 1"])]
    (_, how), ((made,), _), *closed = dask.made
    assert how == {"n_workers": 3, "threads_per_worker": 1, "dashboard_address": ":0"}
    assert isinstance(made, Cluster)
    assert closed == ["closed", "closed"]


def test_a_cluster_that_gives_up(dask: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(block: blocks.Block) -> list[str]:
        raise Killed

    monkeypatch.setattr(blocks, "run", lost)
    with pytest.raises(BuildError) as caught:
        run("dask://host:1", 1)
    assert caught.value.what.startswith("A block was lost with several workers of the cluster")
    assert caught.value.disk == KEPT
    monkeypatch.setattr(Client, "fails", OSError("no"))
    with pytest.raises(BuildError) as caught:
        run("dask://host:1", 1)
    assert (caught.value.what, caught.value.disk) == ("No Dask scheduler answers at host:1.", KEPT)


@pytest.mark.parametrize("executor", ["host:1", "dask://", "slurm"])
def test_an_address_that_is_none(executor: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cluster.runner(executor, 1)
    assert caught.value.what == f"{executor!r} is not a valid executor. Use dask://host:port or dask://local."


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match="Dask is not installed") as caught:
        cluster.runner("dask://local", 1)
    assert caught.value.next == "pip install 'us43d[dask]'"
