"""Debian's chromium, driven by Playwright, on a server of synthetic sample datasets."""

import importlib
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from us43d.harmonize.corpus import Corpus
from us43d.view import opening
from us43d.view.browse import Browse
from us43d.view.server import Running, Site, serve
from us43d.view.thumbs import Thumbs

app = importlib.import_module("us43d.cli.app").app


def us43d(home: Path, *words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--home", str(home)])
    assert result.exit_code == 0, result.output
    return result.stdout


def run(home: Path, printed: str) -> None:
    """Run commands as the page prints them."""
    for line in printed.split("&&"):
        program, *words = shlex.split(line)
        assert program == "us43d"
        us43d(home, *words)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with api.sync_playwright() as playwright:
        # A sandbox needs rights that containers lack; the pages are our own.
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages; at the end no script may have failed, and nothing may have been asked of another host."""
    contexts: list[Any] = []
    faults: list[str] = []

    def opened(url: str, *, width: int = 1280, height: int = 800, scheme: str = "light", quiet: bool = False) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        own = url.split("/")[2]

        def logged(message: Any) -> None:
            # A test ends its server while the page loads what comes next; one that needs the server fails by itself.
            if message.type in ("error", "warning") and "net::ERR_CONNECTION" not in message.text:
                faults.append(f"console: {message.text}")

        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        if not quiet:
            page.on("console", logged)

        def asked(request: Any) -> None:
            if request.url.split(":")[0] not in ("data", "blob") and request.url.split("/")[2] != own:
                faults.append(f"foreign: {request.url}")

        page.on("request", asked)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BUSI, CAMUS and DDTI, built, merged and audited."""
    root = tmp_path_factory.mktemp("web") / "home"
    us43d(root, "fetch", "busi", "camus", "ddti", "--specimen")
    us43d(root, "build", "--all", "--jobs", "1")
    us43d(root, "audit", "--all")
    return root


@pytest.fixture
def site(home: Path, tmp_path: Path) -> Iterator[Running]:
    """`us43d view` of that home."""
    corpus = Corpus.open(home / "corpora" / "us43d", home)
    browse = Browse(opening.catalogue(corpus, home), Thumbs(tmp_path / "thumbs"), "corpus us43d")
    running = serve(Site(browse.routes(), "/"), port=0)
    yield running
    running.stop()
