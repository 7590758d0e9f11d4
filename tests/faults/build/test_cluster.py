"""Builds on a Dask cluster of processes: the digest of any other build, also where a worker is killed half-way."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

from us43d import registry
from us43d.errors import BuildError, ConfigError
from us43d.harmonize import build as building
from us43d.harmonize.build import build
from us43d.harmonize.check import check
from us43d.paths import Home

RECIPE = registry.recipe("busbra")
SPECIMEN = {"kind": "specimen"}


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(building, "BLOCK", 8)
    folder = tmp_path / "raw"
    folder.mkdir()
    registry.specimen("busbra")(folder, np.random.default_rng(0), 4)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made:
        yield made


def test_a_worker_killed_half_way_changes_nothing(raw: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    alone = build(RECIPE, raw, Home(tmp_path / "alone"), receipt=SPECIMEN)
    with Client(cluster) as client:
        pids = list(client.run(os.getpid).values())
    assert len(pids) == 2
    steps: list[int] = []

    def kill_one(done: int, _: int | None) -> None:
        if not steps:
            os.kill(pids[0], signal.SIGKILL)
        steps.append(done)

    address = cluster.scheduler_address.replace("tcp://", "dask://")
    spread = build(
        RECIPE, raw, Home(tmp_path / "spread"), receipt=SPECIMEN, executor=address, progress=kill_one
    )  # fmt: skip
    assert len(steps) > 4
    assert spread.digest == alone.digest
    assert check(spread.path) == []


def test_a_cluster_of_this_machine(raw: Path, tmp_path: Path) -> None:
    alone = build(RECIPE, raw, Home(tmp_path / "alone"), receipt=SPECIMEN)
    local = build(RECIPE, raw, Home(tmp_path / "local"), receipt=SPECIMEN, executor="dask://local", jobs=2)
    assert local.digest == alone.digest


def test_addresses_that_cannot_be_meant(raw: Path, tmp_path: Path) -> None:
    for address in ("spark://host:1", "dask://", "dask"):
        with pytest.raises(ConfigError, match=r"is not a valid executor. Use dask://host:port"):
            build(RECIPE, raw, Home(tmp_path), receipt=SPECIMEN, executor=address)
    with pytest.raises(BuildError, match=r"No Dask scheduler answers at 127\.0\.0\.1:9"):
        build(RECIPE, raw, Home(tmp_path), receipt=SPECIMEN, executor="dask://127.0.0.1:9")
