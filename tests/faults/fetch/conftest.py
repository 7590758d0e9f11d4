"""The loopback server, sources on it, and a home."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from us43d.paths import Home


def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fetch_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def loopback() -> ModuleType:
    return _beside("loopback")


@pytest.fixture(scope="session")
def sources() -> ModuleType:
    return _beside("sources")


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
