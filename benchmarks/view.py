"""How fast the local page answers over a large corpus, in how much memory, and a click while labelling.

    python benchmarks/view.py [--images 300000] [--folder FOLDER] [--weights PATH] [--clicks 20]
    python benchmarks/view.py --images 0 --weights us43d/weights/small    # labelling alone

Prints two Markdown tables. The corpus is that of benchmarks/corpus.py, of 20 sources; the images that the first grid
shows are there, 600 × 500 pixels. Times are of requests over the loopback interface, as a browser makes them, six at
once for images; with chromium and playwright installed, also of a real browser until the first screen is drawn.
Labelling: 1024 × 768 pixels, encoded ahead as while a person looks; the model is --weights, or the preset `tiny` with
random weights, whose speed is that of trained ones. The server is a process of its own.
"""

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from corpus import generate, run

#: Tiles of the first screen at 1280 × 800.
SCREEN = 40


class Server:
    """`us43d view` or `us43d label` as a person starts it."""

    def __init__(self, *words: str) -> None:
        start_time = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "us43d", *words, "--no-browser"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.started = time.perf_counter() - start_time
        parts = urlsplit(self.url)
        self.port, self.secret = parts.port or 0, parts.query.removeprefix("token=")

    def ask(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {"Cookie": f"us43d-{self.port}={self.secret}", "Origin": f"http://127.0.0.1:{self.port}"}
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status} {data[:200]!r}")
        return data

    def peak(self) -> float:
        """MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate()


def seconds(work: Callable[[], Any]) -> float:
    start_time = time.perf_counter()
    work()
    return time.perf_counter() - start_time


def first_grid(server: Server) -> None:
    """What a browser asks for until the first screen is there."""
    with ThreadPoolExecutor(6) as pool:
        pages = [pool.submit(server.ask, path) for path in ("/", "/static/grid.js", "/static/style.css", "/api/facets")]
        rows = json.loads(server.ask("/api/grid?start=0&count=200"))["rows"][:SCREEN]
        list(pool.map(server.ask, [f"/{kind}/{row['id']}" for row in rows for kind in ("thumb", "overlay")]))
        for page in pages:
            page.result()


def draw(home: Path) -> None:
    """Write the images the first screens show."""
    rng = np.random.default_rng(0)
    first = sorted(
        (home / "build").iterdir(), key=lambda path: json.loads((path / "generated/dataset.json").read_text())["slug"]
    )[0]
    import pyarrow.parquet as pq

    for name in pq.read_table(first / "generated/manifest.parquet", columns=["file"])["file"].to_pylist()[:600]:
        file = first / "generated" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), rng.integers(0, 255, (500, 600), np.uint8))


def browser(url: str) -> float | None:
    """Measure seconds of a real browser until all images of the first screen are drawn."""
    program = shutil.which("chromium")
    if program is None:
        print("chromium is not installed: no time of a browser", file=sys.stderr)
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        start_time = time.perf_counter()
        page.goto(url)
        page.wait_for_function(
            "() => { const all = [...document.querySelectorAll('.item img')]; return all.length > 20 && all.every(i => i.complete && i.naturalWidth); }"  # noqa: E501
        )
        took = time.perf_counter() - start_time
        chromium.close()
    return took


def viewing(home: Path, images: int) -> None:
    generate(home, images)
    draw(home)
    run("merge", home)
    server = Server("view", "--corpus", "all", "--home", str(home))
    names = [
        v["value"]
        for f in json.loads(server.ask("/api/facets"))["facets"]
        if f["name"] == "source"
        for v in f["values"]
    ]
    cold = seconds(lambda: first_grid(server))
    warm = statistics.median(seconds(lambda: first_grid(server)) for _ in range(5))
    first_screen = browser(server.url)
    facet, narrowed, text = [], [], []
    for n, name in enumerate(names):
        query = f"source={name}&split=test"
        facet.append(seconds(lambda query=query: server.ask(f"/api/facets?{query}")))
        narrowed.append(seconds(lambda query=query: server.ask(f"/api/grid?{query}&count=200")))
        text.append(seconds(lambda n=n: server.ask(f"/api/facets?q=patient_{n:04}")))
    far = seconds(lambda: server.ask(f"/api/grid?start={images - 300}&count=200"))
    shown = f"{first_screen:.2f} s" if first_screen is not None else "–"

    def timed(times: list[float]) -> str:
        return f"{1000 * statistics.median(times):.0f} ({1000 * max(times):.0f}) ms"

    columns = {
        "images": f"{images:,}", "start": f"{server.started:.1f} s", "first grid, no thumbnail yet": f"{cold:.2f} s",
        "first grid": f"{warm:.2f} s", "in chromium": shown, "a facet (worst)": timed(facet),
        "a filtered grid (worst)": timed(narrowed), "a search (worst)": timed(text),
        "the far end": f"{1000 * far:.0f} ms",
        "peak memory": f"{server.peak():.0f} MB",
    }  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n| {' | '.join(columns.values())} |\n", flush=True)
    server.stop()


def labelling(folder: Path, weights: Path | None, clicks: int) -> None:
    rng = np.random.default_rng(0)
    scans = folder / "scans"
    scans.mkdir()
    for n in range(8):
        cv2.imwrite(str(scans / f"{n}.png"), rng.integers(0, 255, (768, 1024), np.uint8))
    if weights is None:
        from us43d.model import weights as files
        from us43d.model.network import PRESETS, UltraSam

        weights = folder / "weights"
        files.save(UltraSam.random(PRESETS["tiny"], 0), weights)
    server = Server("label", str(scans), "--weights", str(weights))
    server.ask("/api/label/image/0")
    wait = seconds(lambda: server.ask("/api/label/prompt/0", {"box": [100, 100, 500, 500]}))  # loads the model
    box, click = [], []
    for n in range(1, 8):
        server.ask(f"/api/label/image/{n}")
        time.sleep(2.5)  # a person looks; the image was encoded ahead
        corners = [100 + 10 * n, 100, 500, 500]
        box.append(seconds(lambda n=n, c=corners: server.ask(f"/api/label/prompt/{n}", {"box": c})))
        points: list[list[float]] = []
        for _ in range(clicks // 7 + 1):
            points.append([float(v) for v in rng.uniform(50, 700, 2)])
            prompt = {"box": corners, "points": points, "labels": [1] * len(points)}
            click.append(seconds(lambda n=n, p=prompt: server.ask(f"/api/label/prompt/{n}", p)))
    print("| first box after the start | a box (worst) | a click (worst) | peak memory |")
    print("|---|---|---|---|")
    print(
        f"| {wait:.1f} s | {1000 * statistics.median(box):.0f} ({1000 * max(box):.0f}) ms | "
        f"{1000 * statistics.median(click):.0f} ({1000 * max(click):.0f}) ms | {server.peak():.0f} MB |"
    )
    server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300_000, help="of the corpus; 0: labelling alone")
    parser.add_argument(
        "--folder", type=Path, help="where to write; without it the system's folder for temporary files"
    )
    parser.add_argument("--weights", type=Path, help="model that answers clicks")
    parser.add_argument("--clicks", type=int, default=20)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.images:
            viewing(Path(folder) / "home", options.images)
        labelling(Path(folder), options.weights, options.clicks)


if __name__ == "__main__":
    main()
