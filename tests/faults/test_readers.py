"""Bad input for every reader: one file of a specimen spoilt at a time. The build fails with an error that names the
file or the sample, or lists what it left out or handled; never a traceback, never a silent loss."""

import os
import re
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from us43d import registry
from us43d.contract import Expect, RawTree, Recipe, paths_in
from us43d.errors import BuildError, CountError, RawDataError
from us43d.harmonize import shards
from us43d.harmonize.build import BuildResult, build
from us43d.paths import Home

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
TABLES = {".csv", ".txt", ".tsv"}


def png(width: int, height: int) -> bytes:
    """A grey PNG that claims a size; its pixels are there only if it is small."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (width + 1) * height if width * height < 1000 else b"")
    chunks = [head, b"IDAT" + rows, b"IEND"]
    body = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def as_like(path: Path, data: bytes) -> bytes:
    """A PNG in the format of the file's ending."""
    if path.suffix.lower() == ".png":
        return data
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return cv2.imencode(path.suffix.lower(), picture)[1].tobytes()


def truncated(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])


def emptied(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"")


def other_type(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"<!DOCTYPE html><html><title>Sign in</title>" + b" " * 200 + b"</html>")


def renamed_to(path: Path) -> Path:
    return path.with_name(f"renamed {path.name}")


def renamed(path: Path) -> None:
    path.rename(renamed_to(path))


def gone(path: Path) -> None:
    path.unlink()


def one_pixel(path: Path) -> None:
    path.unlink()
    path.write_bytes(as_like(path, png(1, 1)))


def enormous(path: Path) -> None:
    path.unlink()
    path.write_bytes(png(30_000, 30_000))


def column_missing(path: Path) -> None:
    first, end, rest = re.split(rb"(\r\n|\r|\n)", path.read_bytes(), maxsplit=1)
    path.unlink()
    path.write_bytes(b"x" + first[1:].replace(b",", b"_,", 1) + end + rest)


def not_a_number(path: Path) -> None:
    """NaN for the first number of the last line that has one."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    for n in reversed(range(1, len(lines))):
        cells = lines[n].rstrip(b"\r\n").split(b",")
        numbers = [c for c, cell in enumerate(cells) if cell.replace(b".", b"").replace(b"-", b"").isdigit()]
        if len(cells) > 1 and numbers:
            cells[numbers[-1]] = b"NaN"
            lines[n] = b",".join(cells) + b"\n"
            break
    path.write_bytes(b"".join(lines))


ANY: tuple[Callable[[Path], None], ...] = (truncated, emptied, other_type, renamed, gone)


def spoilt(path: Path) -> Iterator[Callable[[Path], None]]:
    """The ways a file is spoilt, by its kind."""
    yield from ANY
    if path.suffix.lower() in PICTURES:
        yield one_pixel
        if path.suffix.lower() == ".png":
            yield enormous
    if path.suffix.lower() in TABLES and b"," in path.read_bytes()[:2000].split(b"\n")[0]:
        yield column_missing
        yield not_a_number


def copied(raw: Path, to: Path) -> Path:
    """The same files again, as hard links, to be replaced one at a time."""
    shutil.copytree(raw, to, copy_function=os.link)
    return to


def victims(raw: Path) -> list[Path]:
    """One file of each folder depth and ending, the last of its kind by name."""
    kinds: dict[tuple[str, str], Path] = {}
    for path in sorted(p for p in raw.rglob("*") if p.is_file()):
        relative = path.relative_to(raw)
        role = "".join(c for c in relative.stem.lower() if c.isalpha())[-8:] if len(relative.parts) < 2 else ""
        kinds[relative.parent.name + role, path.suffix.lower()] = relative
    return sorted(kinds.values())[:5]


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in shards.read_manifest(folder / shards.MANIFEST)}


def counted(recipe: Recipe, result: BuildResult) -> Recipe:
    """The recipe as if what the specimen holds were published, so that a shortfall fails as in a real build."""
    found = result.dataset["counts"]
    expect = Expect(images=found["images"], annotated=found["annotated"], masks=found["masks"])
    return Recipe(**({name: getattr(recipe, name) for name in Recipe.model_fields} | {"expect": expect}))


@pytest.mark.parametrize("slug", registry.slugs())
def test_spoilt_files_are_named_or_listed(slug: str, tmp_path: Path) -> None:
    recipe = registry.recipe(slug)
    raw = tmp_path / "raw"
    raw.mkdir()
    registry.specimen(slug)(raw, np.random.default_rng(5))
    first = build(recipe, raw, Home(tmp_path / "sound"), partial=True, fixes=False)
    recipe, sound = counted(recipe, first), rows_of(first.path)
    wrong = []
    tried = 0
    place = copied(raw, tmp_path / "spoilt")
    for victim in victims(raw):
        for spoil in spoilt(raw / victim):
            spoil(place / victim)
            fault = judged(recipe, place, victim, sound, tmp_path / "home")
            wrong += [f"{victim} {spoil.__name__}: {fault}"] if fault else []
            for path in (place / victim, renamed_to(place / victim)):
                path.unlink(missing_ok=True)
            os.link(raw / victim, place / victim)
            tried += 1
    assert tried >= 5
    assert not wrong, "\n".join(wrong)


def judged(recipe: Recipe, raw: Path, victim: Path, sound: dict[str, dict[str, Any]], home: Path) -> str:
    """What is wrong with how a build takes the spoilt file; "" if nothing is."""
    shutil.rmtree(home, ignore_errors=True)
    try:
        rows = rows_of(build(recipe, raw, Home(home), fixes=False).path)
    except CountError:
        return ""
    except (RawDataError, BuildError) as error:
        # The file, a number in its name (images and masks share it), its folder, or a sample.
        numbers = re.findall(r"\d{2,}", victim.stem)
        names = [victim.name, victim.stem.split(".")[0], *numbers, victim.parent.name, *sound]
        text = str(error).lower()
        named = any(name and name.lower() in text for name in names)
        return "" if named else f"neither file nor sample is named: {error}"
    except Exception as error:  # noqa: BLE001  (this is what must not happen, whatever it is)
        return f"a bug: {error!r}"
    if (lost := sorted(set(sound) - set(rows))) and len(rows) < len(sound):  # renamed, it is there by another key
        return f"lost without a word: {lost[:3]}"
    for key, before in ((key, row) for key, row in sound.items() if key in rows):
        content = [(row["sha256"], row["annotations"], row["pixel_hash"]) for row in (before, rows[key])]
        if content[0] != content[1] and not rows[key]["drop"] and rows[key]["remarks"] == before["remarks"]:
            return f"{key} changed without a word"
    return ""


@pytest.mark.parametrize("slug", registry.slugs())
def test_permission_removed(slug: str) -> None:
    recipe = registry.recipe(slug)
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        root = Path(folder)
        root.chmod(0o755)
        raw, home = root / "raw", root / "home"
        raw.mkdir()
        home.mkdir(mode=0o777)
        home.chmod(0o777)
        registry.specimen(slug)(raw, np.random.default_rng(5))
        # All that a first build imports or keeps open is of a copy, so that the other user has everything to do.
        copy = copied(raw, root / "copy")
        build(recipe, copy, Home(root / "before"), receipt={"kind": "specimen"})
        seen = next(paths_in(next(sample for sample in recipe.read(RawTree(copy)) if sample.drop is None)))
        victim = raw / seen.relative_to(copy)
        victim.chmod(0)
        try:
            if os.geteuid() == 0:
                os.seteuid(65534)  # root reads everything
            with pytest.raises(RawDataError, match=re.escape(victim.name)):
                build(recipe, raw, Home(home), receipt={"kind": "specimen"})
        finally:
            os.seteuid(os.getuid())


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "fine.png").write_bytes(b"")
    with open(os.fsencode(tmp_path) + b"/b\xe4d.png", "wb"):  # noqa: PTH123  (a path that pathlib cannot spell)
        pass
    with pytest.raises(RawDataError, match="is not UTF-8"):
        RawTree(tmp_path)
