"""Image files of a remote corpus come into the cache, and nowhere else."""

import hashlib
import json
import os
import time
from pathlib import Path

import fsspec
import pytest

from us43d.errors import BuildError, StorageError, UsageError
from us43d.harmonize import remote as remotes
from us43d.harmonize.remote import Remote


def test_a_name_that_leaves_the_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("US43D_CACHE", "../cache")
    (tmp_path / "private.txt").write_text("private")
    fsspec.filesystem("memory").pipe("/leaving/builds/a.png", b"image")
    remote = Remote("memory://leaving")
    assert remote.file("builds/a.png").read_bytes() == b"image"
    for name in ("builds/../../../../private.txt", "../../../private.txt", str(tmp_path / "private.txt")):
        with pytest.raises(BuildError, match="outside of it"):
            remote.file(name)


def test_how_much_the_cache_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("US43D_CACHE_GB", raising=False)
    assert remotes._limit() == 20_000_000_000
    for text, size in (("", 20_000_000_000), ("0.5", 500_000_000), ("1", 1_000_000_000)):
        monkeypatch.setenv("US43D_CACHE_GB", text)
        assert remotes._limit() == size
    for text in ("x", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("US43D_CACHE_GB", text)
        with pytest.raises(UsageError, match=f"US43D_CACHE_GB='{text}' is not a positive number"):
            remotes._limit()


class Refused(Exception):
    """An exception of a protocol's client."""


Refused.__module__ = "botocore.exceptions"
#: Next step where nothing is known to help.
AGAIN = "the same command again"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("US43D_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def home(tmp_path: Path) -> str:
    """URL of a home with a corpus "c" in the memory of this process."""
    for name in ("corpus.json", "images.npy", "annotations.npy", "strings.bin", "rle.bin"):
        text = '{"digest": "d"}' if name == "corpus.json" else name
        fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/corpora/c/{name}", text.encode())
    return f"memory://{tmp_path.name}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_urls() -> None:
    assert [remotes.is_url(place) for place in ("s3://a", "a/b", Path("a:/b"))] == [True, False, False]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("US43D_CACHE", raising=False)
    assert remotes._cache() == Path.home() / ".cache" / "us43d"
    monkeypatch.setenv("US43D_CACHE", "~/x")
    assert remotes._cache() == Path.home() / "x"


def test_file_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    fs, path = remotes.filesystem("memory://a/b/")
    assert (type(fs).__name__, path) == ("MemoryFileSystem", "/a/b")

    def fails(error: Exception) -> None:
        def opened(url: str) -> None:
            raise error

        monkeypatch.setattr(fsspec.core, "url_to_fs", opened)

    packages = {"s3": "'us43d[export]'", "s3a": "'us43d[export]'", "gs": "gcsfs", "gcs": "gcsfs",
                "hf": "huggingface_hub", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}  # fmt: skip
    steps = {f"{scheme}://a": f"pip install {package}" for scheme, package in packages.items()}
    for url, step in (steps | {"x://a": "us43d export --help"}).items():
        for error in (ImportError("Install it."), ValueError("Install it")):
            fails(error)
            with pytest.raises(UsageError) as caught:
                remotes.filesystem(url)
            assert (caught.value.what, caught.value.next) == (f"{url} cannot be opened: Install it.", step)
    fails(Refused("no"))
    with pytest.raises(StorageError) as caught:
        remotes.filesystem("s3://a")
    assert (caught.value.what, caught.value.next) == ("s3://a cannot be opened: no.", AGAIN)
    fails(KeyError("a bug"))
    with pytest.raises(KeyError):
        remotes.filesystem("s3://a")


def test_the_next_step_after_an_error() -> None:
    named = type("NoCredentialsError", (Refused,), {"__module__": "here"})
    assert [remotes.of_client(error) for error in (OSError(), Refused(), named(), KeyError())] == [
        True,
        True,
        True,
        False,
    ]
    for package in (
        "aiobotocore",
        "aiohttp",
        "azure",
        "botocore",
        "gcsfs",
        "google",
        "httpx",
        "httpx2",
        "huggingface_hub",
    ):
        assert remotes.of_client(type("E", (Exception,), {"__module__": f"{package}.errors"})())
    for scheme, login in (
        ("s3", "aws configure"), ("s3a", "aws configure"), ("gs", "gcloud auth application-default login"),
        ("gcs", "gcloud auth application-default login"), ("hf", "hf auth login"), ("az", "az login"),
        ("abfs", "az login"), ("abfss", "az login"), ("ftp", AGAIN),
    ):  # fmt: skip
        assert remotes.remedy(f"{scheme}://a", PermissionError()) == remotes.remedy(f"{scheme}://a", named()) == login
        assert remotes.remedy(f"{scheme}://a", OSError()) == AGAIN


def test_an_index_is_fetched_once_and_again_where_it_changed(cache: Path, home: str, tmp_path: Path) -> None:
    url, memory = f"{home}/corpora/c", fsspec.filesystem("memory")
    folder = remotes.fetched_index(f"{url}/")
    assert folder == cache / digest(url) / digest('{"digest": "d"}d')
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "corpus.json": '{"digest": "d"}', "remote.json": json.dumps({"home": home}),
        **{name: name for name in ("images.npy", "annotations.npy", "strings.bin", "rle.bin")},
    }  # fmt: skip
    assert list(folder.parent.iterdir()) == [folder]
    remote = Remote.of(folder)
    assert remote is not None
    assert (remote.home, remote.folder) == (home, cache / "images" / digest(home))
    assert Remote.of(cache) is None
    (folder / "images.npy").write_text("kept")
    assert remotes.fetched_index(url) == folder
    assert (folder / "images.npy").read_text() == "kept"
    memory.pipe(f"/{tmp_path.name}/corpora/c/corpus.json", b'{"digest": "e"}')
    memory.pipe(f"/{tmp_path.name}/corpora/c/slices.npy", b"slices")
    other = remotes.fetched_index(url)
    assert other != folder
    assert (other / "slices.npy").read_text() == "slices"


def test_what_is_no_corpus_at_a_url(cache: Path, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    with pytest.raises(BuildError) as caught:
        remotes.fetched_index(f"{home}/corpora/d")
    assert caught.value.what.startswith(f"{home}/corpora/d is missing: ")
    assert caught.value.next == "us43d corpus --all   (and copy the home again)"
    for text, why in ((b"{", "JSONDecodeError"), (b"{}", "KeyError('digest')"), (b"[]", "TypeError(")):
        memory.pipe(f"/{tmp_path.name}/corpora/d/corpus.json", text)
        with pytest.raises(BuildError) as caught:
            remotes.fetched_index(f"{home}/corpora/d")
        assert caught.value.what.startswith(f"{home}/corpora/d is not a corpus: {why}")
        assert caught.value.next == "us43d corpus --all"
    memory.rm(f"/{tmp_path.name}/corpora/c/rle.bin")
    with pytest.raises(BuildError, match="is missing"):
        remotes.fetched_index(f"{home}/corpora/c")
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert list((cache / digest(f"{home}/corpora/c")).iterdir()) == []
    memory.pipe(f"/{tmp_path.name}/corpora/c/rle.bin", b"")
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("read-only")))
    with pytest.raises(StorageError) as caught:
        remotes.fetched_index(f"{home}/corpora/c")
    assert (caught.value.what.partition(" ")[2], caught.value.next) == ("could not be written.", "df -h")

    def bug(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(type(memory), "cat_file", bug)
    with pytest.raises(KeyError):
        remotes.fetched_index(f"{home}/corpora/c")
    monkeypatch.setattr(type(memory), "cat_file", lambda *_: (_ for _ in ()).throw(PermissionError("no")))
    with pytest.raises(StorageError) as caught:
        remotes.fetched_index(f"{home}/corpora/c")
    assert (caught.value.what, caught.value.next) == (f"{home}/corpora/c cannot be read: no.", AGAIN)


def test_files_are_fetched_once(cache: Path, home: str, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/{tmp_path.name}/builds/a.png", b"image")
    remote = Remote(home)
    path = remote.file("builds/a.png")
    assert path == cache / "images" / digest(home) / "builds" / "a.png"
    assert remote.origin(path) == f"{home}/builds/a.png"
    assert list(path.parent.iterdir()) == [path]
    os.utime(path, (5, 5))
    path.write_bytes(b"kept")
    assert remote.file("builds/a.png").read_bytes() == b"kept"
    assert path.stat().st_mtime > 1_000_000
    assert remote.find("builds/a.png") == path
    assert remote.find("builds/b.png") is None
    with pytest.raises(BuildError, match=rf"^{home}/builds/b\.png is missing"):
        remote.file("builds/b.png")
    with pytest.raises(BuildError) as caught:
        remote.find("../b.png")
    assert caught.value.what == f"A corpus in {home} names the file '../b.png', which is outside of it."
    assert caught.value.next == "us43d corpus --all   (and copy the home again)"
    assert list(path.parent.iterdir()) == [path]


def test_another_process_opens_its_own_connection(cache: Path, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    filesystem = remotes.filesystem
    monkeypatch.setattr(remotes, "filesystem", lambda url: (opened.append(url), filesystem(url))[1])
    remote = Remote(home)
    for number in range(2):
        remote.file(f"corpora/c/{('images', 'annotations')[number]}.npy")
    assert opened == [home]
    monkeypatch.setattr(os, "getpid", lambda: -5)
    remote.file("corpora/c/rle.bin")
    remote.file("corpora/c/strings.bin")
    assert opened == [home, home]


def test_the_files_used_longest_ago_leave_the_cache(
    cache: Path, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all homes, at the bound, and none that was used within a minute."""
    memory = fsspec.filesystem("memory")
    for name in "abcde":
        memory.pipe(f"/{tmp_path.name}/{name}", bytes(100))
    remote = Remote(home)
    remote.limit = 300
    other = cache / "images" / "other"
    other.mkdir(parents=True)
    now = time.time()
    for number, name in enumerate(("x", "y", "z")):
        (other / name).write_bytes(bytes(100))
        os.utime(other / name, (now - 1000 + number, now - 1000 + number))
    remote.file("a")
    assert sorted(path.name for path in cache.rglob("*") if path.is_file()) == ["a", "y", "z"]
    remote.limit = 301
    remote.file("b")
    assert sorted(path.name for path in cache.rglob("*") if path.is_file()) == ["a", "b", "z"]
    (other / "z").unlink()
    remote.limit = 100
    remote.file("c")  # all were used just now
    assert sorted(path.name for path in cache.rglob("*") if path.is_file()) == ["a", "b", "c"]
    for name in "abc":
        os.utime(remote.folder / name, (now - 61, now - 61))
    remote._evict(remote.folder / "b")
    assert sorted(path.name for path in cache.rglob("*") if path.is_file()) == ["b"]
    os.utime(remote.folder / "b", (now - 50, now - 50))
    remote.limit = 0
    remote._evict(remote.folder / "x")
    assert (remote.folder / "b").exists()
    os.utime(remote.folder / "b", (now - 90, now - 90))
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **how: (unlink(path), unlink(path, **how)))
    remote._evict(remote.folder / "x")  # another process has removed it
    assert not (remote.folder / "b").exists()


def test_the_cache_is_looked_through_after_a_twentieth_of_its_bound(
    home: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    looked: list[str] = []
    monkeypatch.setattr(Remote, "_evict", lambda self, kept: looked.append(kept.name))
    remote = Remote(home)
    remote.limit = 4000
    for name in "abcdef":
        memory.pipe(f"/{tmp_path.name}/{name}", bytes(100))
        remote.file(name)
    assert looked == ["c", "f"]  # after more than 200 bytes
