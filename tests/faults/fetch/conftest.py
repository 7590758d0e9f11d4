"""The loopback server, sources on it, and a home."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from us43d.paths import Home

from . import loopback as _loopback
from . import sources as _sources


@pytest.fixture(scope="session")
def loopback() -> ModuleType:
    return _loopback


@pytest.fixture(scope="session")
def sources() -> ModuleType:
    return _sources


@pytest.fixture
def server(loopback: ModuleType) -> Iterator[Any]:
    with loopback.serving() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "us43d_hosts", "requests_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
