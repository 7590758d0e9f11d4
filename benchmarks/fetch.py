"""How fast fetching is, hashing and checks included, against programs that only copy. Prints a Markdown table.

    python benchmarks/fetch.py [--size MB] [--files N] [--rounds N] [--folder FOLDER]

One large file: `us43d.fetch.download` against `curl -o`. Many small files: the same, eight at once, against
`aria2c -j8`. Both take turns in one run, from a server on loopback in a process of its own.
"""

import argparse
import http.server
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

from us43d.fetch.download import download
from us43d.fetch.http import Remote, Web

SMALL = 40_000  # bytes, about a cropped JPEG frame of GIST514-DB


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.send_header("ETag", f'"{size}"')
            self.end_headers()
            self.wfile.flush()
            at = 0
            while at < size:
                at += os.sendfile(self.connection.fileno(), file.fileno(), at, min(size - at, 4 << 20))


def serve(folder: str) -> None:
    os.chdir(folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def timed(work: Callable[[Path], None], place: Path) -> float:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    os.sync()
    start_time = time.perf_counter()
    work(place)
    return time.perf_counter() - start_time


def compare(what: str, ours: Callable[[Path], None], theirs: Callable[[Path], None], rounds: int, root: Path) -> None:
    """A row: medians of both and of their ratio in each round, as both take turns."""
    pairs = [(timed(ours, root / "ours"), timed(theirs, root / "theirs")) for _ in range(rounds)]
    ratio = statistics.median(b / a for a, b in pairs)
    a, b = (statistics.median(pair) for pair in zip(*pairs, strict=True))
    print(f"| {what} | {a:.2f} s | {b:.2f} s | {ratio:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000, help="MB of the large file")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where to write; without it the system's folder for temporary files")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    root = Path(tempfile.mkdtemp(dir=options.folder))
    served = root / "served"
    (served / "small").mkdir(parents=True)
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(served)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout
        base = f"http://127.0.0.1:{int(server.stdout.readline())}"
        with (served / "large.bin").open("wb") as file:
            for _ in range(options.size):
                file.write(os.urandom(1_000_000))
        names = [f"{n:05}.jpg" for n in range(options.files)]
        for name in names:
            (served / "small" / name).write_bytes(b"\xff\xd8\xff" + os.urandom(SMALL))
        urls = root / "urls.txt"
        urls.write_text("".join(f"{base}/small/{name}\n" for name in names))

        def large(place: Path) -> None:
            download(Remote("large.bin", f"{base}/large.bin"), place, Web(bases={}))

        def many(place: Path) -> None:
            web = Web(bases={}, per_host=8)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda name: download(Remote(name, f"{base}/small/{name}"), place, web), names))

        def curl(place: Path) -> None:
            subprocess.run(["curl", "-s", "-o", place / "large.bin", f"{base}/large.bin"], check=True)

        def aria(place: Path) -> None:
            subprocess.run(["aria2c", "-q", "-j8", "-d", place, "-i", urls], check=True)

        print("| what | us43d | other | speed as a ratio |\n|---|---|---|---|", flush=True)
        rows = (
            (f"one file of {options.size:,} MB, against curl -o", "curl", large, curl),
            (f"{len(names):,} files of {SMALL // 1000} kB, 8 at once, against aria2c -j8", "aria2c", many, aria),
        )
        for what, program, ours, theirs in rows:
            if shutil.which(program) is None:
                print(f"| {what} | – | {program} is not installed | – |")
            else:
                compare(what, ours, theirs, options.rounds, root)
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(root)
    return None


if __name__ == "__main__":
    main()
