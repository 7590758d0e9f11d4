"""One file over HTTP: streamed to a name of its own, resumed within and across runs, checked, renamed.

A part is a file of one version of the remote file, written from its begin on by one process, with a note beside it that
says which version (ETag or Last-Modified, length). It is never truncated: a download that must restart starts a new
part. So a part that another process takes over, or copies while it is still growing, is always a true beginning.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import requests
from urllib3.exceptions import HTTPError

from us43d import atomic
from us43d.errors import FetchError, VerifyError
from us43d.fetch import owner, store, verify
from us43d.fetch.deadline import within
from us43d.fetch.http import Remote, Web, escaped, number

__all__ = ["Received", "download"]

Progress = Callable[[int, int | None], None]

_BLOCK = 1 << 20
#: A host slower than this over the time the session waits for bytes is taken for dead (bytes per second).
_SLOWEST = 50


@dataclass(frozen=True, slots=True)
class Received:
    """What came, for the receipt.

    trust: "published digest", "published size", "same as before", "first use" (the digest is unpublished; recorded and
    checked ever after), "content" (made on the fly: only its content is compared).
    """

    name: str
    url: str
    date: str
    bytes: int
    sha256: str
    trust: str
    md5: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    fetched: int = 0

    def entry(self) -> dict[str, Any]:
        """Return the entry for the receipt."""
        kept = {key: value for key, value in asdict(self).items() if value is not None}
        return {key: value for key, value in kept.items() if key not in {"name", "fetched"}}


def download(
    remote: Remote, folder: Path, web: Web, progress: Progress | None = None, *, known: str | None = None
) -> Received:
    """Bring a file to `folder`/<its name>, or leave that name as it was.

    known: its sha256 at an earlier download. Raises VerifyError (the part is deleted), FetchError and StorageError
    (the partial file is kept, and the next call resumes it).
    """
    target = folder / remote.name
    with atomic.storage_errors(target, "The received bytes are kept; the next run resumes."):
        target.parent.mkdir(parents=True, exist_ok=True)
        parts = folder / store.PARTS
        parts.mkdir(exist_ok=True)
        with owner.claim() as token, ExitStack() as stack:
            partial = _Part.found(parts, token, remote) or _Part(parts, token, remote)
            stack.callback(lambda: partial.close())
            inherited = partial.size
            while True:
                partial, fetched = _transfer(partial, remote, web, progress)
                try:
                    verify.check_type(partial.path, remote.name, remote.size)
                    digests = partial.digests()
                    trust = _trust(remote, digests, known)
                except VerifyError as error:
                    partial.delete()
                    if inherited:  # what an earlier run left may be at fault; once more, all of it
                        inherited, partial = 0, _Part(parts, token, remote)
                        continue
                    error.disk = "The download was deleted; nothing else changed."
                    raise
                break
            partial.finish(target)
            return Received(
                name=remote.name,
                url=remote.url,
                date=store.now(),
                bytes=partial.size,
                sha256=digests["sha256"],
                md5=digests.get("md5"),
                trust=trust,
                etag=partial.note.get("etag"),
                last_modified=partial.note.get("last_modified"),
                fetched=fetched,
            )


def _trust(remote: Remote, digests: dict[str, str], known: str | None) -> str:
    """Return the trust in a file. Raises VerifyError."""
    verify.check_digests(remote.name, digests, md5=remote.md5, sha256=remote.sha256)
    if remote.generated:
        return "content"
    if known is not None:
        verify.check_digests(remote.name, digests, md5=None, sha256=known, who="first download's")
    if remote.sha256 or remote.md5:
        return "published digest"
    if known is not None:
        return "same as before"
    return "published size" if remote.size else "first use"


class _Slow(requests.Timeout):
    pass


# ---------------------------------------------------------------------------------------------------------------- parts


class _Part:
    """The beginning of a file, and the note on which version of it this is."""

    def __init__(
        self,
        parts: Path,
        token: str,
        remote: Remote,
        *,
        mine: Path | None = None,
        note: dict[str, Any] | None = None,
    ) -> None:
        self.parts, self.token, self.remote = parts, token, remote
        self.path = mine or _new_path(parts, token, remote)
        self.note: dict[str, Any] = note or {}
        self.size = 0
        self._hashes = _Hashes("sha256", "md5") if remote.md5 else _Hashes("sha256")
        if mine is not None:
            with self.path.open("rb", buffering=0) as file:
                while block := file.read(_BLOCK):
                    self._count(block)
        self._file = self.path.open("ab", buffering=0)

    @classmethod
    def found(cls, parts: Path, token: str, remote: Remote) -> "_Part | None":
        """The longest that earlier runs left of this file, taken over; from a process that may still live, copied."""
        for old in sorted(parts.glob(f"{_stem(remote)}.*.part"), key=_size, reverse=True):
            ended = owner.ended(old.name)
            if ended is False:
                continue
            try:
                note = json.loads(_note_path(old).read_text("utf-8"))
                if not _fits(note, remote):
                    continue
            except (FileNotFoundError, ValueError, KeyError):
                continue  # its process died before it knew what it was fetching
            mine = _new_path(parts, token, remote)
            _write_note(mine, note)
            try:
                if ended:
                    old.rename(mine)
                    _note_path(old).unlink(missing_ok=True)
                else:
                    shutil.copyfile(old, mine)
            except FileNotFoundError:  # another process was quicker
                _note_path(mine).unlink()
                continue
            return cls(parts, token, remote, mine=mine, note=note)
        return None

    @property
    def length(self) -> int | None:
        """Bytes of the whole file, as the host says."""
        return self.note.get("length")

    @property
    def validator(self) -> str | None:
        """What If-Range can tell versions apart by. Weak ETags do not promise equal bytes."""
        etag = self.note.get("etag")
        return etag if etag and not etag.startswith("W/") else self.note.get("last_modified")

    @property
    def resumable(self) -> bool:
        """Whether a changed file would be noticed."""
        return bool(self.size and (self.validator or self.remote.sha256 or self.remote.md5))

    def begin(self, note: dict[str, Any]) -> "_Part":
        """Return the part for a version from its first byte on: this one if it is still empty, else a new one."""
        partial = self
        if self.size:
            self.delete()
            partial = _Part(self.parts, self.token, self.remote)
        partial.note = note
        _write_note(partial.path, note)
        return partial

    def write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            view = view[self._file.write(view) :]  # a disk that fills up takes a part of it first
        self._count(block)

    def _count(self, block: bytes) -> None:
        self._hashes.update(block)
        self.size += len(block)

    def digests(self) -> dict[str, str]:
        return self._hashes.done()

    def finish(self, target: Path) -> None:
        os.fsync(self._file.fileno())
        self._file.close()
        try:
            self.path.replace(target)
        except FileNotFoundError:
            raise FetchError(
                f"The partial download of {target.name} was removed by another program, or because of a wrong clock.",
                disk="Its received bytes are lost.",
                next="the same command",
            ) from None
        _note_path(self.path).unlink(missing_ok=True)
        for old in self.parts.glob(f"{_stem(self.remote)}.*"):
            if owner.abandoned(old):
                old.unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()
        if self.size == 0:
            self.delete()

    def delete(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)
        _note_path(self.path).unlink(missing_ok=True)


#: Hashing lets go of the interpreter, so it runs beside the reading and writing of the next bytes.
_beside = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="hash")


class _Hashes:
    """Digests of a stream of blocks."""

    def __init__(self, *names: str) -> None:
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
        self._blocks: list[bytes] = []
        self._held = 0
        self._running: list[Future[None]] = []

    def update(self, block: bytes) -> None:
        self._blocks.append(block)
        self._held += len(block)
        if self._held >= _BLOCK:
            self._wait()
            blocks, self._blocks, self._held = self._blocks, [], 0
            self._running = [_beside.submit(_update, digest, blocks) for digest in self._hashes.values()]

    def _wait(self) -> None:
        for job in self._running:
            job.result()

    def done(self) -> dict[str, str]:
        self._wait()
        for digest in self._hashes.values():
            _update(digest, self._blocks)
        self._blocks, self._held, self._running = [], 0, []
        return {name: digest.hexdigest() for name, digest in self._hashes.items()}


def _update(digest: "hashlib._Hash", blocks: list[bytes]) -> None:
    for block in blocks:
        digest.update(block)


def _stem(remote: Remote) -> str:
    """Return the stem of the partial file; names may be long or have folders, and the note has the name."""
    return hashlib.sha256(remote.name.encode()).hexdigest()[:16]


def _new_path(parts: Path, token: str, remote: Remote) -> Path:
    """Return a name never used before, so that a process copying a partial file never gets another version of it."""
    return parts / f"{_stem(remote)}.{token}.{secrets.token_hex(3)}.part"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _write_note(path: Path, note: dict[str, Any]) -> None:
    atomic.write_bytes(_note_path(path), json.dumps(note, sort_keys=True).encode(), durable=False)


def _fits(note: dict[str, Any], remote: Remote) -> bool:
    """Return whether a part can be the beginning of this file.

    An ETag or a digest proves it; a date only at one address.
    """
    if note["name"] != remote.name:
        return False
    return bool(remote.sha256 or remote.md5 or note.get("etag") or note["url"] == remote.url)


# ------------------------------------------------------------------------------------------------------- the transfer


def _transfer(partial: _Part, remote: Remote, web: Web, progress: Progress | None) -> tuple[_Part, int]:
    """Fetch until the part is complete. Returns it (it may be another one) and the bytes that came over the net."""
    fetched = failures = furthest = 0
    try:
        while partial.length is None or partial.size < partial.length:
            start = partial.size if partial.resumable else 0
            headers = dict(remote.headers)
            if start and partial.validator:
                headers["If-Range"] = partial.validator
            with web.open(remote.url, headers=headers, start=start) as answer:
                partial, what = _begun(partial, answer, start)
                before, reason, slow, excess = partial.size, "it was changed in between", False, False
                if what == "bytes":
                    try:
                        for block in _blocks(answer, web):
                            partial.write(block)
                            if progress:
                                progress(partial.size, partial.length or remote.size)
                            if excess := remote.size is not None and partial.size > remote.size:
                                break
                        what = "complete"
                    except (requests.RequestException, HTTPError) as error:
                        reason, slow = escaped(str(error)[:200]), isinstance(error, requests.Timeout)
                fetched += partial.size - before
            if what == "complete" and (excess or partial.length is None or partial.size >= partial.length):
                partial.note["length"] = partial.size
                break
            failures = 0 if partial.size > furthest and not slow else failures + 1
            furthest = max(furthest, partial.size)
            if failures >= web.attempts:
                missing = f" of {partial.length:,}" if partial.length else ""
                raise FetchError(
                    f"{remote.name} broke off {failures} times and did not get beyond {furthest:,}{missing} bytes "
                    f"({reason}): {remote.url}.",
                    disk="The received bytes are kept; the next run resumes if the host permits it.",
                    next="the same command   (later)",
                )
            web.wait(web.pause * 2 ** min(failures, 5))
    except BaseException:
        partial.close()
        raise
    return partial, fetched


def _begun(
    partial: _Part, answer: requests.Response, start: int
) -> tuple[_Part, Literal["bytes", "complete", "again"]]:
    """The part that the answer belongs to, and what to do: read its bytes, or nothing more, or ask again for all."""
    headers = answer.headers
    note: dict[str, Any] = {"name": partial.remote.name, "url": partial.remote.url}
    encoded = headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}
    if answer.status_code == 416:
        total = re.fullmatch(r"bytes \*/(\d+)", headers.get("Content-Range", ""))
        if total and number(total[1]) == partial.size and partial.length in (None, partial.size):
            return partial, "complete"
        return partial.begin(note), "again"
    if answer.status_code == 206:
        content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        same = (
            content_range is not None
            and number(content_range[1]) == start
            and (content_range[2] == "*" or partial.length is None or number(content_range[2]) == partial.length)
            and headers.get("ETag", partial.note.get("etag")) == partial.note.get("etag")
            and not encoded
        )
        return (partial, "bytes") if start and same else (partial.begin(note), "again")
    length = None if encoded else number(headers.get("Content-Length"))
    if length and partial.remote.size is None:  # a published size was checked before, with those of the other files
        room = length * (2 if partial.remote.unpack else 1)
        unpacked = ", and as much unpacked" if partial.remote.unpack else ""
        store.check_room(partial.parts, room, f"{partial.remote.name} ({length / 1e9:,.3f} GB{unpacked})")
    note |= {"etag": headers.get("ETag"), "last_modified": headers.get("Last-Modified")}
    return partial.begin(note | {"length": length}), "bytes"


def _blocks(answer: requests.Response, web: Web) -> Iterator[bytes]:
    """Yield the answer's bytes as they come. Raises _Slow when they hardly do."""
    window = web.timeout[1]
    since, got = time.monotonic(), 0
    with within(answer, 2 * window) as clock:  # the head of a chunk has no block to be measured by
        while block := answer.raw.read1(_BLOCK, decode_content=True):
            yield block
            clock.note()
            if web.stopped.is_set():
                web.wait(0)
            got += len(block)
            passed = time.monotonic() - since
            if passed > window:
                if got < _SLOWEST * passed:
                    raise _Slow(f"only {got:,} bytes came in {passed:.0f} s")
                since, got = time.monotonic(), 0
    if answer.raw.length_remaining:
        raise requests.ConnectionError("the connection ended early")
