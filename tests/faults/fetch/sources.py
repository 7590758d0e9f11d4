"""Sources that exist for these tests alone, and a process that fetches them on command and may be killed."""

import io
import json
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from us43d import registry
from us43d.contract import RawFile, Recipe, Route
from us43d.errors import Us43dError
from us43d.fetch import ledger
from us43d.fetch.fetch import fetch
from us43d.fetch.http import Web
from us43d.paths import Home


def archive(seed: int, size: int, folder: str = "data") -> bytes:
    """A zip of about `size` bytes that do not shrink."""
    buffer = io.BytesIO()
    rng = np.random.default_rng(seed)
    with zipfile.ZipFile(buffer, "w") as made:
        for n in range(2):
            made.writestr(zipfile.ZipInfo(f"{folder}/{seed}_{n}.bin"), rng.bytes(size // 2))
    return buffer.getvalue()


def recipe(base: str, files: Sequence[dict[str, Any]] = ({},), *, name: str = "Loopback", **facts: Any) -> Recipe:
    """A source whose only way is plain HTTP from `base`; a file is /<n>.zip where it does not say otherwise."""
    raw = [RawFile(**{"name": f"{n}.zip", "url": f"{base}/{n}.zip", **file}) for n, file in enumerate(files)]
    route = Route(kind="http", url=f"{base}/page", files=tuple(raw))
    plain = registry.recipe("stu_hospital")
    return plain.model_copy(update={"name": name, "slug": name.lower(), "routes": (route,)} | facts)


def patient(**options: Any) -> Web:
    """A session whose pauses are short."""
    return Web(**{"bases": {}, "pause": 0.01, "timeout": (5.0, 5.0)} | options)


def main() -> None:
    """Fork a process for each line on stdin ({home, base, count, jobs, lockless}); its number, then its end, on stdout.

    One that has imported everything already, so that a test can afford fifty.
    """
    for line in sys.stdin:
        order = json.loads(line)
        number = os.fork()
        if number == 0:
            code = 0
            try:
                if order.get("lockless"):
                    from filelock import FileLock

                    FileLock.acquire = lambda self, **_: None  # type: ignore[method-assign,assignment]
                home = Home(Path(order["home"]))
                source = recipe(order["base"], [{}] * order["count"])
                ledger.accept(home, source)
                fetch(source, home, patient(), jobs=order["jobs"])
            except Us43dError as error:
                print(error, file=sys.stderr)
                code = error.exit_code
            os._exit(code)
        print(number, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
