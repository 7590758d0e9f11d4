"""Take the screenshots of README and documentation again, of synthetic sample datasets: `make screenshots`.

Needs chromium and playwright, as `make test-web` does.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
US43D = (sys.executable, "-m", "us43d")
LOADED = "() => [...document.querySelectorAll('.item img')].every(image => image.complete)"
SAVED = "() => document.querySelector('#saved').textContent === 'Saved'"


def us43d(home: Path, *words: str) -> None:
    subprocess.run([*US43D, *words, "--home", str(home)], check=True, stdout=subprocess.DEVNULL)


def corpus(home: Path) -> None:
    """Three sources, one of them with six images a second time, half as large."""
    us43d(home, "fetch", "busi", "camus", "stu", "--specimen")
    folder = next((home / "raw" / "STU-Hospital").rglob("Hospital"))
    folder.chmod(0o755)
    for n in range(1, 7):
        for name, how in (("Test_Image", Image.Resampling.BOX), ("mask", Image.Resampling.NEAREST)):
            with Image.open(folder / f"{name}_{n}.png") as image:
                image.resize((image.width // 2, image.height // 2), how).save(folder / f"{name}_{30 + n}.png")
    for words in (("build", "--all"), ("audit", "--all"), ("build", "--all")):
        us43d(home, *words)


@contextmanager
def served(*words: str) -> Iterator[str]:
    """Start a server; yields its address."""
    with subprocess.Popen([*US43D, *words, "--no-browser"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def opened(browser: Browser, address: str, ready: str, scheme: Any = "light") -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    page.goto(address)
    page.wait_for_selector(ready)
    return page


def save(page: Page, name: str, width: int) -> None:
    """Write a screenshot with a palette: a third of the bytes."""
    page.wait_for_timeout(700)
    file = IMAGES / f"{name}.png"
    page.screenshot(path=file)
    with Image.open(file) as shot:
        small = shot.convert("RGB").resize((width, shot.height * width // shot.width), Image.Resampling.LANCZOS)
    small.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="us43d-") as folder, sync_playwright() as playwright:
        home, scans = Path(folder, "home"), Path(folder, "scans")
        corpus(home)
        scans.mkdir()
        for n, file in enumerate(sorted((home / "raw" / "BUSI").rglob("benign (?).png"))):
            shutil.copyfile(file, scans / f"P{n:03}.png")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with served("view", "--corpus", "us43d", "--home", str(home)) as address:
            page = opened(browser, address, ".item img")
            page.wait_for_function(LOADED)
            save(page, "view", 900)
            page.goto(address.split("?")[0] + "review")
            page.wait_for_selector("#choices button")
            save(page, "review", 1100)
            page = opened(browser, f"{address}&source=CAMUS", ".item img", "dark")
            page.click(".item a >> nth=2")
            page.wait_for_selector("#facts .strip img")
            save(page, "image", 1100)
        with served("label", str(scans)) as address:
            page = opened(browser, address, "#objects li")
            page.fill("#structure", "breast lesion")
            page.keyboard.press("Enter")
            stage = page.locator("#stage").bounding_box()
            assert stage is not None
            page.mouse.move(stage["x"] + 0.215 * stage["width"], stage["y"] + 0.2 * stage["height"])
            page.mouse.down()
            page.mouse.move(stage["x"] + 0.73 * stage["width"], stage["y"] + 0.9 * stage["height"], steps=5)
            page.mouse.up()
            page.wait_for_selector("#objects .pick", timeout=60_000)
            page.wait_for_function(SAVED)
            save(page, "label", 1100)
        browser.close()


if __name__ == "__main__":
    main()
