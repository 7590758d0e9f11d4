"""Makes archives, good and hostile ones, byte by byte where no program would make them.

`GOOD` and `HOSTILE` list them: each builder writes into a folder and returns the files that are the archive.
"""

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: What every good archive holds.
TRUTH = {
    "top.txt": b"at the top\n",
    "a/one.bin": np.random.default_rng(1).bytes(5000),
    "a/two.txt": b"the same line again and again\n" * 200,
    "a/empty.txt": b"",
    "b/deep/three.bin": np.random.default_rng(2).bytes(9000),
    "b/zurück/Größe.txt": "äöü".encode(),
}
SECRET = b"PASSWORD FILE"


# ----------------------------------------------------------------------------------------------------------------- zip


@dataclass
class Member:
    """One member of a zip. size, crc: what the headers claim, if not the truth."""

    name: bytes
    data: bytes = b""
    method: int = 8
    flags: int = 0x800
    mode: int = 0
    size: int | None = None
    crc: int | None = None
    extra: bytes = b""
    zip64: bool = False


def packed(data: bytes, method: int) -> bytes:
    if method == 8:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        return deflate.compress(data) + deflate.flush()
    if method == 9:
        import inflate64

        deflate64 = inflate64.Deflater()
        return deflate64.deflate(data) + deflate64.flush()
    if method == 12:
        return bz2.compress(data)
    if method == 14:
        alone = lzma.compress(data, lzma.FORMAT_ALONE)
        return b"\x09\x14\x05\x00" + alone[:5] + alone[13:]
    return data


def zip_bytes(members: Sequence[Member], *, disk: int = 0, zip64: bool = False, entries: int | None = None) -> bytes:
    """A zip in one piece. disk: bytes of each disk but the last, for `spanned` to cut at; then it has a marker."""
    out = io.BytesIO()
    if disk:
        out.write(b"PK\x07\x08")
    directory = io.BytesIO()

    def place(at: int) -> tuple[int, int]:
        return divmod(at, disk) if disk else (0, at)

    for each in members:
        data = packed(each.data, each.method)
        size = len(each.data) if each.size is None else each.size
        crc = zlib.crc32(each.data) if each.crc is None else each.crc
        if disk and out.tell() % disk + 30 + len(each.name) > disk:  # a header is never cut
            out.write(bytes(disk - out.tell() % disk))
        number, offset = place(out.tell())
        sizes = (crc, len(data), size, len(each.name))
        out.write(struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, each.flags, each.method, 0, 0x21, *sizes, 0))
        out.write(each.name + data)
        extra, shown = each.extra, (len(data), size, number, offset)
        if each.zip64:
            extra += struct.pack("<2H3QL", 1, 28, size, len(data), offset, number)
            shown = (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF, 0xFFFFFFFF)
        head = (each.flags, each.method, 0, 0x21, crc, *shown[:2], len(each.name), len(extra), 0, shown[2])
        directory.write(struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 3 << 8 | 45, 45, *head, 0, each.mode << 16, shown[3]))
        directory.write(each.name + extra)
    length = len(directory.getvalue())
    tail = length + (98 if zip64 else 22)
    if disk and out.tell() % disk + tail > disk:
        out.write(bytes(disk - out.tell() % disk))
    begin = place(out.tell())
    last = begin[0]
    out.write(directory.getvalue())
    count = len(members) if entries is None else entries
    if zip64:
        at = place(out.tell())
        out.write(struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, last, begin[0], count, count, length, begin[1]))
        out.write(struct.pack("<4sLQL", b"PK\x06\x07", at[0], at[1], last + 1))
        out.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    else:
        end = (last, begin[0], count & 0xFFFF, count & 0xFFFF, length, begin[1])
        out.write(struct.pack("<4s4H2LH", b"PK\x05\x06", *end, 0))
    return out.getvalue()


def members(files: dict[str, bytes] = TRUTH, **keywords: object) -> list[Member]:
    return [Member(name.encode(), data, **keywords) for name, data in files.items()]  # type: ignore[arg-type]


def spanned(folder: Path, *, last: str = "data.zip", part: str = "data.z{:02}", zip64: bool = False) -> list[Path]:
    """A zip on disks of 4,000 bytes."""
    whole = zip_bytes(members(method=0, zip64=zip64), disk=4000, zip64=zip64)
    pieces = [whole[at : at + 4000] for at in range(0, len(whole), 4000)]
    names = [*(part.format(number) for number in range(1, len(pieces))), last]
    return [written(folder, name, piece) for name, piece in zip(names, pieces, strict=True)]


# ----------------------------------------------------------------------------------------------------------------- tar


def tar_bytes(entries: Sequence[tuple[tarfile.TarInfo, bytes]], **keywords: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **keywords) as tar:  # type: ignore[call-overload]
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def entry(
    name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, data if kind == tarfile.REGTYPE else b""


def good_tar(**keywords: object) -> bytes:
    return tar_bytes([entry(name, data) for name, data in TRUTH.items()], **keywords)


def zstd(data: bytes) -> bytes:
    from backports.zstd import compress

    return bytes(compress(data))


# ----------------------------------------------------------------------------------------------------------------- RAR


@dataclass
class Rar:
    """One stored file of a RAR archive. link: a symbolic link to there."""

    name: str
    data: bytes = b""
    folder: bool = False
    link: str = ""
    encrypted: bool = False
    size: int | None = None


def rar4_bytes(entries: Sequence[Rar]) -> bytes:
    """RAR 2.9 to 4.x, nothing compressed."""

    def block(kind: int, flags: int, body: bytes, data: bytes = b"") -> bytes:
        head = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head + data

    out = b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6))
    for each in entries:
        data = each.link.encode() if each.link else each.data
        size = len(data) if each.size is None else each.size
        mode = (stat.S_IFLNK if each.link else stat.S_IFDIR if each.folder else stat.S_IFREG) | 0o755
        plain, name = each.name.encode("ascii", "replace"), each.name
        stored = plain if plain.decode() == name else each.name.encode()
        flags = 0x8000 | (0xE0 if each.folder else 0) | (4 if each.encrypted else 0)
        head = struct.pack("<LLBLLBBHL", len(data), size, 3, zlib.crc32(data), 0x21 << 16, 29, 0x30, len(stored), mode)
        out += block(0x74, flags, head + stored, data)
    return out + block(0x7B, 0x4000, b"")


def vint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def rar5_bytes(entries: Sequence[Rar]) -> bytes:
    """RAR 5, nothing compressed."""

    def block(kind: int, flags: int, body: bytes, extra: bytes = b"", data: bytes | None = None) -> bytes:
        flags |= (1 if extra else 0) | (2 if data is not None else 0)
        head = vint(kind) + vint(flags) + (vint(len(extra)) if extra else b"")
        head += (vint(len(data)) if data is not None else b"") + body + extra
        head = vint(len(head)) + head
        return struct.pack("<L", zlib.crc32(head)) + head + (data or b"")

    def record(kind: int, body: bytes) -> bytes:
        return vint(len(vint(kind) + body)) + vint(kind) + body

    out = b"Rar!\x1a\x07\x01\x00" + block(1, 0, vint(0))
    for each in entries:
        size = len(each.data) if each.size is None else each.size
        name, link = each.name.encode(), each.link.encode()
        mode = (stat.S_IFLNK if link else stat.S_IFDIR if each.folder else stat.S_IFREG) | 0o755
        body = vint(5 if each.folder else 4) + vint(size) + vint(mode) + struct.pack("<L", zlib.crc32(each.data))
        body += vint(0) + vint(1) + vint(len(name)) + name
        extra = record(5, vint(1) + vint(0) + vint(len(link)) + link) if link else b""
        extra += record(1, vint(0) + vint(0) + b"\x0f" + bytes(32)) if each.encrypted else b""
        out += block(2, 0, body, extra, None if each.folder else each.data)
    return out + block(5, 0, vint(0))


def rars(files: dict[str, bytes] = TRUTH) -> list[Rar]:
    return [Rar(name, data) for name, data in files.items()]


# ------------------------------------------------------------------------------------------------------------------ 7z


def seven_bytes(files: dict[str, bytes] = TRUTH, *, password: str | None = None, solid: bool = True) -> bytes:
    import py7zr

    out = io.BytesIO()
    with py7zr.SevenZipFile(out, "w", password=password) as archive:
        archive.set_encoded_header_mode(False)
        for name, data in files.items():
            archive.writestr(data, name)
    return out.getvalue()


def seven_renamed(old: str, new: str, files: dict[str, bytes]) -> bytes:
    """A 7z whose header names a file as no program would, its checksums put right."""
    data = bytearray(seven_bytes(files))
    a, b = old.encode("utf-16-le") + b"\0\0", new.encode("utf-16-le") + b"\0\0"
    assert len(a) == len(b)
    assert data.count(a) == 1
    at = data.index(a)
    data[at : at + len(b)] = b
    offset, size = struct.unpack("<QQ", data[12:28])
    data[28:32] = struct.pack("<L", zlib.crc32(data[32 + offset : 32 + offset + size]))
    data[8:12] = struct.pack("<L", zlib.crc32(data[12:32]))
    return bytes(data)


# -------------------------------------------------------------------------------------------------------- the archives


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


Builder = Callable[[Path], list[Path]]


def one(name: str, data: Callable[[], bytes]) -> Builder:
    return lambda folder: [written(folder, name, data())]


def split(name: str, data: Callable[[], bytes]) -> Builder:
    """Cut through anywhere, as 7-Zip's volumes are."""

    def build(folder: Path) -> list[Path]:
        whole = data()
        return [
            written(folder, f"{name}.{number:03}", whole[at : at + 6000])
            for number, at in enumerate(range(0, len(whole), 6000), start=1)
        ]

    return build


GOOD: dict[str, Builder] = {
    "zip deflated": one("data.zip", lambda: zip_bytes(members())),
    "zip stored": one("data.zip", lambda: zip_bytes(members(method=0))),
    "zip deflate64": one("data.zip", lambda: zip_bytes(members(method=9))),
    "zip bzip2": one("data.zip", lambda: zip_bytes(members(method=12))),
    "zip lzma": one("data.zip", lambda: zip_bytes(members(method=14))),
    "zip64": one("data.zip", lambda: zip_bytes(members(zip64=True), zip64=True)),
    "zip of another name": one("data.change2zip", lambda: zip_bytes(members())),
    "zip spanned": spanned,
    "zip spanned, zip64": lambda folder: spanned(folder, zip64=True),
    "zip spanned and renamed": lambda folder: spanned(folder, last="data.change2zip"),
    "zip spanned, all called .zip": lambda folder: spanned(folder, last="data.change2zip.zip", part="data.z{:02}.zip"),
    "zip split": split("data.zip", lambda: zip_bytes(members())),
    "tar": one("data.tar", good_tar),
    "tar pax": one("data.tar", lambda: good_tar(format=tarfile.PAX_FORMAT)),
    "tar gnu": one("data.tar", lambda: good_tar(format=tarfile.GNU_FORMAT)),
    "tar gzip": one("data.tar.gz", lambda: gzip.compress(good_tar())),
    "tar bzip2": one("data.tar.bz2", lambda: bz2.compress(good_tar())),
    "tar xz": one("data.tar.xz", lambda: lzma.compress(good_tar())),
    "tar lzma": one("data.tar.lzma", lambda: lzma.compress(good_tar(), lzma.FORMAT_ALONE)),
    "tar zstd": one("data.tar.zst", lambda: zstd(good_tar())),
    "rar4": one("data.rar", lambda: rar4_bytes(rars())),
    "rar5": one("data.rar", lambda: rar5_bytes(rars())),
    "7z": one("data.7z", seven_bytes),
    "7z split": split("data.7z", seven_bytes),
}

_OUT = {
    "absolute": "/absolute.txt",
    "drive": "C:/absolute.txt",
    "backslash": "\\absolute.txt",
    "up": "../out.txt",
    "up within": "a/../../out.txt",
    "up by backslash": "..\\out.txt",
    "control": "a\x07b.txt",
    "too long": "x" * 300,
}


def _named(name: str) -> dict[str, Builder]:
    """The same name in every format."""
    files = {"good.txt": b"good", name: b"evil"}
    same = {"good.txt": b"good", "z" * len(name): b"evil"}
    return {
        "zip": one("x.zip", lambda: zip_bytes(members(files))),
        "tar": one("x.tar", lambda: tar_bytes([entry(n, d) for n, d in files.items()])),
        "rar4": one("x.rar", lambda: rar4_bytes(rars(files))),
        "rar5": one("x.rar", lambda: rar5_bytes(rars(files))),
        "7z": one("x.7z", lambda: seven_renamed("z" * len(name), name, same)),
    }


def _pairs(first: str, second: str) -> dict[str, Builder]:
    """Two names that cannot both be."""
    both = [(first, b"one"), (second, b"two")]
    other = {first: b"one", "z" * len(second): b"two"}
    return {
        "zip": one("x.zip", lambda: zip_bytes([Member(n.encode(), d) for n, d in both])),
        "tar": one("x.tar", lambda: tar_bytes([entry(n, d) for n, d in both])),
        "rar4": one("x.rar", lambda: rar4_bytes([Rar(n, d) for n, d in both])),
        "rar5": one("x.rar", lambda: rar5_bytes([Rar(n, d) for n, d in both])),
        "7z": one("x.7z", lambda: seven_renamed("z" * len(second), second, other)),
    }


def _zip_link(*links: tuple[str, str], then: str = "") -> Builder:
    found = [Member(n.encode(), to.encode(), 0, mode=stat.S_IFLNK | 0o777) for n, to in links]
    return one("x.zip", lambda: zip_bytes(found + ([Member(then.encode(), b"evil")] if then else [])))


def _tar_link(*links: tuple[str, str], then: str = "", kind: bytes = tarfile.SYMTYPE) -> Builder:
    found = [entry(n, kind=kind, link=to) for n, to in links]
    return one("x.tar", lambda: tar_bytes(found + ([entry(then)] if then else [])))


def _bomb(count: int = 3_000_000) -> dict[str, Builder]:
    data = {"zeros.bin": bytes(count)}
    return {
        "zip": one("x.zip", lambda: zip_bytes(members(data))),
        "zip that lies": one("x.zip", lambda: zip_bytes(members(data, size=10))),
        "zip bzip2": one("x.zip", lambda: zip_bytes(members(data, method=12))),
        "tar gzip": one("x.tgz", lambda: gzip.compress(tar_bytes([entry("zeros.bin", bytes(count))]))),
        "tar xz, after its end": one("x.txz", lambda: lzma.compress(tar_bytes([entry("a")]) + bytes(count))),
        "7z": one("x.7z", lambda: seven_bytes(data)),
        "zip in zip": one("x.zip", lambda: zip_bytes([Member(b"in.zip", zip_bytes(members(data)))])),
    }


def _huge_directory(folder: Path, entries: int, *, lie: bool) -> list[Path]:
    """A zip that announces ten million members; its directory is a hole of the file system, read as zeros."""
    path = folder / "x.zip"
    size = 46 * entries
    with path.open("wb") as file:
        file.write(b"PK\x03\x04".ljust(30, b"\0"))
        file.seek(30 + size)
        at = file.tell()
        told = 3 if lie else entries
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, told, told, size, 30))
        file.write(struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    return [path]


def _pax(size: int) -> bytes:
    """A tar that begins with a pax header of that size."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def _pax_nest(depth: int) -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 512
    record = b"12 path=abc\n".ljust(512, b"\0")
    return (info.tobuf() + record) * depth + good_tar()


def nested(depth: int) -> bytes:
    """A zip in a zip in a zip …"""
    data = zip_bytes(members({"core.txt": b"core"}))
    for _ in range(depth):
        data = zip_bytes([Member(b"in.zip", data, 0)])
    return data


#: (what it is, format) → (builder, what the message must say). The limits they are unpacked under are the test's.
HOSTILE: dict[tuple[str, str], tuple[Builder, str]] = {
    **{
        (f"name {kind}", fmt): (build, "absolute path|leads out|control characters|too long")
        for kind, name in _OUT.items()
        for fmt, build in _named(name).items()
        if not (fmt == "7z" and kind == "backslash")
    },
    **{("duplicate", fmt): (build, "holds it twice") for fmt, build in _pairs("a/x.txt", "a/x.txt").items()},
    **{("case collision", fmt): (build, "upper and lower case") for fmt, build in _pairs("a/x.txt", "a/X.txt").items()},
    **{
        ("case of folders", fmt): (build, "upper and lower case") for fmt, build in _pairs("a/x.txt", "A/y.txt").items()
    },
    **{
        ("accents", fmt): (build, "upper and lower case or accents")
        for fmt, build in {
            "zip": one("x.zip", lambda: zip_bytes([Member("é".encode(), b"1"), Member("e\u0301".encode(), b"2")]))
        }.items()
    },
    **{("file as folder", fmt): (build, "has the same name") for fmt, build in _pairs("a/x", "a/x/y").items()},
    **{("bomb", fmt): (build, "unpacks to more than") for fmt, build in _bomb().items()},
    ("link out", "zip"): (_zip_link(("l", "../secret.txt")), "link out"),
    ("link out, absolute", "zip"): (_zip_link(("l", "/etc/passwd")), "link out"),
    ("link out, then through it", "zip"): (_zip_link(("l", ".."), then="l/evil.txt"), "link out"),
    ("link inside, then through it", "zip"): (_zip_link(("l", "a"), then="l/evil.txt"), "has the same name"),
    ("links that add up", "zip"): (_zip_link(("a/b/up", ".."), ("a/out", "b/up/../../..")), "link out"),
    ("links in a ring", "zip"): (_zip_link(("a", "b"), ("b", "a")), "circle"),
    ("link out", "tar"): (_tar_link(("l", "../secret.txt")), "link out"),
    ("link out, then through it", "tar"): (_tar_link(("l", "/tmp"), then="l/evil.txt"), "link out"),
    ("links that add up", "tar"): (_tar_link(("d/a", "."), ("d/b", "a/../..")), "link out"),
    ("hard link out", "tar"): (_tar_link(("l", "../secret.txt"), kind=tarfile.LNKTYPE), "leads out"),
    ("hard link out, absolute", "tar"): (_tar_link(("l", "/etc/passwd"), kind=tarfile.LNKTYPE), "absolute"),
    ("hard link to nothing", "tar"): (_tar_link(("l", "nothing"), kind=tarfile.LNKTYPE), "not a file before it"),
    ("link", "rar4"): (one("x.rar", lambda: rar4_bytes([Rar("l", link="../secret.txt")])), "is a link"),
    ("link", "rar5"): (one("x.rar", lambda: rar5_bytes([Rar("l", link="../secret.txt")])), "is a link"),
    ("device", "zip"): (one("x.zip", lambda: zip_bytes([Member(b"d", mode=stat.S_IFCHR | 0o666)])), "device"),
    ("fifo", "zip"): (one("x.zip", lambda: zip_bytes([Member(b"d", mode=stat.S_IFIFO | 0o666)])), "device"),
    **{
        (f"device {kind!r}", "tar"): (one("x.tar", lambda kind=kind: tar_bytes([entry("d", kind=kind)])), "device")
        for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    },
    ("encrypted", "zip"): (one("x.zip", lambda: zip_bytes(members(flags=0x801))), "encrypted"),
    ("encrypted", "rar4"): (one("x.rar", lambda: rar4_bytes([Rar("a", b"secret", encrypted=True)])), "encrypted"),
    ("encrypted", "rar5"): (one("x.rar", lambda: rar5_bytes([Rar("a", b"secret", encrypted=True)])), "encrypted"),
    ("encrypted", "7z"): (one("x.7z", lambda: seven_bytes(password="word")), "encrypted"),
    ("ten million members", "zip"): (
        lambda folder: _huge_directory(folder, 10_000_000, lie=False),
        "10,000,000 members",
    ),
    ("ten million members, told as 3", "zip"): (
        lambda folder: _huge_directory(folder, 10_000_000, lie=True),
        "directory is damaged",
    ),
    ("many members, told as 3", "zip"): (
        one("x.zip", lambda: zip_bytes([Member(b"%d" % n) for n in range(600)], entries=3)),
        "more than the 300 members",
    ),
    ("many members", "tar"): (
        one("x.tar", lambda: tar_bytes([entry(str(n), b"") for n in range(600)])),
        "more than the 300 members",
    ),
    ("many members", "rar5"): (
        one("x.rar", lambda: rar5_bytes([Rar(str(n)) for n in range(600)])),
        "more than the 300 members",
    ),
    ("many members", "7z"): (one("x.7z", lambda: seven_bytes({str(n): b"" for n in range(600)})), "600 members"),
    ("fewer members than told", "zip"): (one("x.zip", lambda: zip_bytes(members(), entries=8)), "announces 8"),
    ("wrong checksum", "zip"): (one("x.zip", lambda: zip_bytes(members({"a": b"abc"}, crc=1))), "checksum is wrong"),
    ("longer than told", "zip"): (one("x.zip", lambda: zip_bytes(members({"a": b"abc"}, size=2))), "3 bytes where 2"),
    ("shorter than told", "zip"): (one("x.zip", lambda: zip_bytes(members({"a": b"abc"}, size=4))), "3 bytes where 4"),
    ("longer than told", "rar5"): (
        one("x.rar", lambda: rar5_bytes([Rar("a", b"abc", size=9)])),
        "damaged|announced|checksum",
    ),
    ("method nobody knows", "zip"): (one("x.zip", lambda: zip_bytes(members(method=98))), r"does not read \(PPMd\)"),
    ("zip at the end of half a zip", "zip"): (
        one(
            "x.zip",
            lambda: zip_bytes([Member(b"in.zip", zip_bytes(members()), 0)])[: 30 + 6 + len(zip_bytes(members()))],
        ),
        "directory is not where",
    ),
    ("huge extension", "tar"): (one("x.tar", lambda: _pax(1 << 40)), "extension of more than a megabyte"),
    ("extensions without end", "tar"): (one("x.tar", lambda: _pax_nest(5000)), "nested without end"),
    ("nested too deep", "zip"): (one("in.zip", lambda: nested(9)), "more than 4 levels"),
    ("web page", "html"): (one("x.zip", lambda: b"<!DOCTYPE html><html><title>Log in</title></html>"), "a web page"),
    ("empty", "zip"): (one("x.zip", lambda: b""), "it is empty"),
    ("gzip, but no tar", "gzip"): (one("x.tar.gz", lambda: gzip.compress(b"hello")), "truncated or damaged"),
    ("last part alone", "zip"): (lambda folder: spanned(folder)[-1:], "the others are missing"),
    ("a part missing", "zip"): (
        lambda folder: [p for p in spanned(folder) if "z02" not in p.name],
        "part 2 of data is missing",
    ),
    ("the last part missing", "zip"): (lambda folder: spanned(folder)[:-1], "last part, data.zip, is missing"),
    ("the part before the last missing", "zip"): (
        lambda folder: [*(parts := spanned(folder))[:-2], parts[-1]],
        r"parts, but \d parts are here",
    ),
}
