"""Count how often one flipped bit changes what is read from a file without an error (docs/reliability.md).

.venv/bin/python benchmarks/bit_flips.py [--flips 60] [--seed 0] [NAME …]

The files are those of `tests/faults/fuzz/corpus.py`, and a few forms more. Every reader that takes a file reads it.
"""

import argparse
import importlib.util
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from us43d import pictures
from us43d.errors import Us43dError
from us43d.masks import hdf5, matlab, nrrd, videos

#: Other forms of the fuzz test.
_NO_IMAGES = ("coco.json", ".xml", ".zip", ".tar.gz", ".tar", ".rar", ".7z", ".safetensors", ".pth")
ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("names", nargs="*", help="files, such as a.png; all if none")
    chosen = parser.parse_args()
    corpus = _corpus()
    print("| file | bytes | refused | equal | changed |\n|---|--:|--:|--:|--:|")
    for name, make in (corpus.FORMATS | _more(corpus)).items():
        if (chosen.names and name not in chosen.names) or name.endswith(_NO_IMAGES):
            continue
        with tempfile.TemporaryDirectory(prefix="us43d-") as scratch:
            make(Path(scratch, name))
            own = _READERS.get(Path(name).suffix)
            tried = partial(_tried, own) if own else partial(corpus.read, strict=False)
            counts = _flipped(Path(scratch), name, tried, corpus.equal, chosen)
        print(
            f"| {name} | {counts['bytes']:,} | {counts['refused']} | {counts['equal']} | {counts['changed']} |",
            flush=True,
        )


def _flipped(
    folder: Path, name: str, tried: Callable[[Path], list[Any]], equal: Callable[..., bool], chosen: argparse.Namespace
) -> Counter[str]:
    rng = np.random.default_rng(chosen.seed)
    sound = (folder / name).read_bytes()
    wanted = tried(folder / name)
    counts = Counter(bytes=len(sound))
    for number in range(chosen.flips):
        place = folder / str(number)  # a path of its own, as readers keep files open by their path
        place.mkdir()
        for other in folder.glob("*.*"):  # the pixels of a .mhd
            shutil.copy(other, place)
        data = bytearray(sound)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        (place / name).write_bytes(data)
        results = list(zip(tried(place / name), wanted, strict=True))
        changed = any(one is not None and not equal(one, other) for one, other in results)
        refused = any(one is None and other is not None for one, other in results)
        counts["changed" if changed else "refused" if refused else "equal"] += 1
        shutil.rmtree(place)
    return counts


def _more(corpus: Any) -> dict[str, Callable[[Path], None]]:
    """Forms that the fuzz test does not have."""

    def still(path: Path) -> None:
        cv2.imwrite(str(path), corpus.pixels())

    def mpeg(path: Path) -> None:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"PIM1"), 25, (64, 48))
        for seed in range(6):
            writer.write(np.dstack([corpus.pixels(seed, 48, 64)] * 3))
        writer.release()

    def matlab(compressed: bool) -> Callable[[Path], None]:
        from scipy.io import savemat

        return lambda path: savemat(path, {"image": corpus.stack()}, do_compression=compressed)

    def unchecked(path: Path) -> None:
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("image", data=corpus.stack())
            file.create_dataset("name", data=np.array([b"a", b"b", b"c"]))

    return {"grey.png": still, "grey.jpg": still, "grey.bmp": still, "a.mpg": mpeg,
            "a.mat": matlab(False), "packed.mat": matlab(True), "unchecked.h5": unchecked,
            "packbits.tif": corpus._tiff("packbits"), "lzma.tif": corpus._tiff("lzma")}  # fmt: skip


def _corpus() -> Any:
    spec = importlib.util.spec_from_file_location("corpus", ROOT / "tests" / "faults" / "fuzz" / "corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _tried(readers: tuple[Callable[[Path], Any], ...], path: Path) -> list[Any]:
    """What readers give; None for what they refuse."""
    results = []
    for reader in readers:
        try:
            results.append(reader(path))
        except Us43dError:
            results.append(None)
    return results


def _frames(path: Path) -> Any:
    return [frame.pixels for frame in pictures.open(path).frames()]


#: Of forms that the fuzz test does not read with all of them.
_READERS: dict[str, tuple[Callable[[Path], Any], ...]] = {
    ".mat": (lambda path: matlab.mat_array(path, "image"),),
    ".nrrd": (_frames, lambda path: [nrrd.nrrd_frame(path, n) for n in range(nrrd.nrrd_size(path)[2])]),
    ".mpg": (_frames, lambda path: [videos.video_frame(path, n) for n in range(videos.video_length(path))]),
    ".h5": (lambda path: [hdf5.hdf5_row(path, "image", n) for n in range(3)],),
}


if __name__ == "__main__":
    main()
