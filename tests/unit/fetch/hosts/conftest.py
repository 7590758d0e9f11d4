"""The fakes of all hosts, and a session that finds them in place of the hosts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from us43d.fetch.http import Web

from . import fakes as _fakes


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    return _fakes


@pytest.fixture
def hosts(fakes: ModuleType) -> Iterator[Any]:
    with fakes.serving() as running:
        yield running


@pytest.fixture
def web(hosts: Any) -> Callable[[], Web]:
    """Makes the session, once the test has said which hosts there are."""
    return lambda: Web(bases=hosts.bases, attempts=2, pause=0.01)


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, no credentials of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "us43d_hosts", "xdg_config_home",
                 "kaggle_api_token", "kaggle_username", "kaggle_key", "kaggle_config_dir"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
