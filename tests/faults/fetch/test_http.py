"""One file over a connection that fails in every way: the final name is absent or right, and nothing comes twice."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from us43d.errors import ConfigError, FetchError, VerifyError
from us43d.fetch import store
from us43d.fetch.download import Received, download
from us43d.fetch.http import HttpError, Remote, Web

SIZE = 3_000_000


@pytest.fixture
def served(server: Any, loopback: ModuleType, sources: ModuleType) -> Any:
    server.files["/a.zip"] = loopback.Served(sources.archive(1, SIZE))
    return server.files["/a.zip"]


def get(server: Any, sources: ModuleType, folder: Path, *, known: str | None = None, **facts: Any) -> Received:
    remote = Remote("a.zip", f"{server.base}/a.zip", **facts)
    return download(remote, folder, sources.patient(), known=known)


def parts(folder: Path) -> list[Path]:
    return sorted((folder / store.PARTS).glob("*.part"))


def arrived(folder: Path, data: bytes) -> bool:
    """The file is there, whole, and nothing else is."""
    return (folder / "a.zip").read_bytes() == data and not list((folder / store.PARTS).iterdir())


def test_plain(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    got = get(server, sources, tmp_path)
    assert arrived(tmp_path, served.data)
    assert (got.bytes, got.trust, got.etag) == (len(served.data), "first use", '"one"')
    assert server.asked("/a.zip")[0].headers["User-Agent"].startswith("us43d/")


@pytest.mark.parametrize("at", [0, 1, 100_000, SIZE // 2, SIZE])
def test_cut_and_resumed(server: Any, served: Any, sources: ModuleType, tmp_path: Path, at: int) -> None:
    served.cut = [at, min(at // 2, 100)]
    get(server, sources, tmp_path)
    assert arrived(tmp_path, served.data)
    assert server.sent("/a.zip") == len(served.data)
    starts = [each.start for each in server.asked("/a.zip")]
    assert starts == [0, at, at + min(at // 2, 100)]


def test_resumed_by_the_next_run(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.cut = [1_000_000, *[0] * 20]
    with pytest.raises(FetchError, match=r"broke off .* did not get beyond 1,000,000 of") as caught:
        get(server, sources, tmp_path)
    assert "kept" in caught.value.disk
    assert not (tmp_path / "a.zip").exists()
    assert [part.stat().st_size for part in parts(tmp_path)] == [1_000_000]
    served.cut = []
    server.log.clear()
    assert get(server, sources, tmp_path).fetched == len(served.data) - 1_000_000
    assert arrived(tmp_path, served.data)
    assert [each.start for each in server.asked("/a.zip")] == [1_000_000]


def test_complete_part_is_not_fetched(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.cut = [1_000_000, *[0] * 20]
    with pytest.raises(FetchError, match="broke off"):
        get(server, sources, tmp_path)
    parts(tmp_path)[0].write_bytes(served.data)
    server.log.clear()
    get(server, sources, tmp_path)
    assert arrived(tmp_path, served.data)
    assert server.log == []


def test_damaged_part_is_replaced(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    import hashlib

    served.cut = [1_000_000, *[0] * 20]
    with pytest.raises(FetchError, match="broke off"):
        get(server, sources, tmp_path)
    parts(tmp_path)[0].write_bytes(bytes(1_000_000))
    served.cut = []
    get(server, sources, tmp_path, sha256=hashlib.sha256(served.data).hexdigest())
    assert arrived(tmp_path, served.data)


def test_200_to_a_range_begins_anew(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.cut, served.ranges = [1_000_000], False
    get(server, sources, tmp_path)
    assert arrived(tmp_path, served.data)
    assert [(each.start, each.status) for each in server.asked("/a.zip")] == [(0, 200), (1_000_000, 200)]


def test_no_resume_without_a_validator(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.cut, served.etag, served.date = [1_000_000], None, False
    get(server, sources, tmp_path)
    assert arrived(tmp_path, served.data)
    assert [each.start for each in server.asked("/a.zip")] == [0, 0]


@pytest.mark.parametrize("heeds", [True, False])
def test_changed_between_ranges(server: Any, served: Any, sources: ModuleType, tmp_path: Path, heeds: bool) -> None:
    new = sources.archive(2, SIZE)
    served.cut, served.versions, served.if_range = [1_000_000], [(new, '"two"')], heeds
    got = get(server, sources, tmp_path)
    assert arrived(tmp_path, new)
    assert got.etag == '"two"'


def test_changed_between_runs(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.cut = [1_000_000, *[0] * 20]
    with pytest.raises(FetchError, match="broke off"):
        get(server, sources, tmp_path)
    served.cut, served.data, served.etag = [], sources.archive(2, SIZE), '"two"'
    get(server, sources, tmp_path)
    assert arrived(tmp_path, served.data)


def test_length_too_long(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.claim = 1000
    with pytest.raises(FetchError, match="did not get beyond"):
        get(server, sources, tmp_path)
    assert not (tmp_path / "a.zip").exists()


def test_length_too_short(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.claim = -1000
    with pytest.raises(VerifyError, match="truncated zip") as caught:
        get(server, sources, tmp_path)
    assert "deleted" in caught.value.disk
    assert not (tmp_path / "a.zip").exists()
    assert parts(tmp_path) == []


def test_no_length(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.length = False
    get(server, sources, tmp_path)
    assert arrived(tmp_path, served.data)


@pytest.mark.parametrize("length", [False, True])
@pytest.mark.parametrize("etag", [None, '"one"'])
def test_more_than_published(
    server: Any, served: Any, sources: ModuleType, tmp_path: Path, length: bool, etag: str | None
) -> None:
    served.length, served.etag = length, etag
    with pytest.raises(VerifyError, match=r"has [\d,]+ bytes or more; the published size is 1,000"):
        get(server, sources, tmp_path, size=1000)
    assert not (tmp_path / "a.zip").exists()
    assert parts(tmp_path) == []
    assert len(server.asked("/a.zip")) == 1  # what is too long is not asked for again


def test_html_page(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.data = b"\n<!DOCTYPE html><html><head><title>Sign\n in</title></head></html>"
    with pytest.raises(VerifyError, match=r"a.zip is an HTML page \(65 bytes, title 'Sign in'\), not a zip") as caught:
        get(server, sources, tmp_path)
    assert "deleted" in caught.value.disk
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("digest", ["md5", "sha256"])
def test_wrong_digest(server: Any, served: Any, sources: ModuleType, tmp_path: Path, digest: str) -> None:
    wrong = {"md5": "0" * 32, "sha256": "0" * 64}[digest]
    with pytest.raises(VerifyError, match=f"{digest} digest .*; the published one is 0000"):
        get(server, sources, tmp_path, **{digest: wrong})
    assert not (tmp_path / "a.zip").exists()
    assert parts(tmp_path) == []


def test_trust_on_first_use(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    first = get(server, sources, tmp_path)
    assert get(server, sources, tmp_path, known=first.sha256).trust == "same as before"
    served.data, served.etag = sources.archive(2, SIZE), '"two"'
    with pytest.raises(VerifyError, match="the first download's one is"):
        get(server, sources, tmp_path, known=first.sha256)


def test_retry_after(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.refusals = [(429, {"Retry-After": "1"})]
    begun = time.monotonic()
    get(server, sources, tmp_path)
    assert time.monotonic() - begun >= 1
    assert arrived(tmp_path, served.data)


def test_retry_after_counts_by_the_hosts_clock(
    server: Any, served: Any, sources: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)  # our clock is wrong by decades
    served.refusals = [(429, {"Date": "Sun, 01 Nov 2026 00:00:00 GMT", "Retry-After": "Sun, 01 Nov 2026 00:00:01 GMT"})]
    begun = time.monotonic()
    get(server, sources, tmp_path)
    assert 1 <= time.monotonic() - begun < 3


def test_retry_after_too_long(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.refusals = [(429, {"Retry-After": "86400"})]
    with pytest.raises(HttpError, match="asks to wait 1 day") as caught:
        get(server, sources, tmp_path)
    assert caught.value.status == 429
    assert "in 1 day" in caught.value.next
    assert len(server.log) == 1


def test_503_twice_then_well(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.refusals = [(503, {}), (503, {})]
    get(server, sources, tmp_path)
    assert arrived(tmp_path, served.data)


def test_503_for_ever(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.refusals = [(503, {})] * 20
    with pytest.raises(HttpError, match=r"failed 5 times \(HTTP 503"):
        get(server, sources, tmp_path)
    assert len(server.log) == 5


@pytest.mark.parametrize(
    ("status", "said"), [(404, "no longer exists"), (403, "refuses scripts"), (401, "wants a login")]
)
def test_refusals(server: Any, served: Any, sources: ModuleType, tmp_path: Path, status: int, said: str) -> None:
    served.refusals = [(status, {})]
    with pytest.raises(HttpError, match=said) as caught:
        get(server, sources, tmp_path)
    assert "browser" in caught.value.next
    assert len(server.log) == 1


def test_redirect(server: Any, served: Any, loopback: ModuleType, sources: ModuleType, tmp_path: Path) -> None:
    server.files["/b.zip"] = loopback.Served(to="/a.zip")
    remote = Remote("a.zip", f"{server.base}/b.zip", headers={"Authorization": "secret"})
    download(remote, tmp_path, sources.patient())
    assert arrived(tmp_path, served.data)
    assert server.asked("/a.zip")[0].headers["Authorization"] == "secret"


def test_redirect_to_another_host_without_secrets(
    server: Any, served: Any, loopback: ModuleType, sources: ModuleType, tmp_path: Path
) -> None:
    elsewhere = server.base.replace("127.0.0.1", "localhost")
    server.files["/b.zip"] = loopback.Served(to=f"{elsewhere}/a.zip")
    remote = Remote("a.zip", f"{server.base}/b.zip", headers={"Authorization": "secret"})
    download(remote, tmp_path, sources.patient())
    assert "Authorization" not in server.asked("/a.zip")[0].headers


def test_redirect_loop(server: Any, loopback: ModuleType, sources: ModuleType, tmp_path: Path) -> None:
    server.files["/a.zip"] = loopback.Served(to="/b.zip")
    server.files["/b.zip"] = loopback.Served(to="/a.zip")
    with pytest.raises(FetchError, match="leads in a circle"):
        get(server, sources, tmp_path)
    assert len(server.log) < 10


def test_no_redirect_out_of_tls(sources: ModuleType, tmp_path: Path, server: Any, loopback: ModuleType) -> None:
    server.files["/a.zip"] = loopback.Served(to="http://example.org/a.zip")
    web = sources.patient(bases={"example.org": server.base})
    with pytest.raises(FetchError, match="an unencrypted address"):
        download(Remote("a.zip", "https://example.org/a.zip"), tmp_path, web)


def test_slow_drip(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.data, served.drip = sources.archive(1, 2000), (4, 0.2)
    web = sources.patient(timeout=(5.0, 0.5), attempts=2)
    with pytest.raises(FetchError, match=r"only .* bytes came in"):
        download(Remote("a.zip", f"{server.base}/a.zip"), tmp_path, web)
    assert not (tmp_path / "a.zip").exists()
    served.drip = None
    get(server, sources, tmp_path)
    assert arrived(tmp_path, served.data)


def test_silence_in_between(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    served.data, served.drip = sources.archive(1, 2000), (1000, 1.0)
    web = sources.patient(timeout=(5.0, 0.3), attempts=2)
    download(Remote("a.zip", f"{server.base}/a.zip"), tmp_path, web)
    assert arrived(tmp_path, served.data)
    assert [each.start for each in server.asked("/a.zip")] == [0, 1000, 2000]


def test_compressed_on_the_way(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    import gzip

    whole = served.data
    served.data, served.headers = gzip.compress(whole), {"Content-Encoding": "gzip"}
    get(server, sources, tmp_path)
    assert arrived(tmp_path, whole)


def test_refused_connection(sources: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(HttpError, match="the host refuses the connection"):
        download(Remote("a.zip", "http://127.0.0.1:9/a.zip"), tmp_path, sources.patient(attempts=2))


# ----------------------------------------------------------------------------------------------------------------- TLS


_AUTHORITY = """
[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = names
x509_extensions = address
[names]
commonName = supplied
[address]
subjectAltName = IP:127.0.0.1
"""


def certificate(folder: Path, begin: str, end: str) -> tuple[Path, Path]:
    """(certificate alone, certificate and key) for 127.0.0.1, signed by itself, valid between two dates."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, so no certificate can be made")
    (folder / "index.txt").touch()
    (folder / "authority.cnf").write_text(_AUTHORITY)
    new = "req -new -nodes -newkey rsa:2048 -keyout key.pem -out request.pem -subj /CN=127.0.0.1"
    sign = "ca -batch -selfsign -notext -config authority.cnf -keyfile key.pem -in request.pem -out cert.pem"
    for command in (new, f"{sign} -startdate {begin} -enddate {end}"):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    cert, both = folder / "cert.pem", folder / "both.pem"
    both.write_bytes(cert.read_bytes() + (folder / "key.pem").read_bytes())
    return cert, both


def test_self_signed_certificate(
    loopback: ModuleType, sources: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, both = certificate(tmp_path, "20200101000000Z", "20990101000000Z")
    with loopback.serving(both) as server:
        server.files["/a.zip"] = loopback.Served(sources.archive(1, 1000))
        with pytest.raises(HttpError, match=r"certificate of 127.0.0.1 is not valid \(self.signed") as caught:
            get(server, sources, tmp_path)
        assert "REQUESTS_CA_BUNDLE" in caught.value.next
        assert server.log == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
        get(server, sources, tmp_path)
        assert arrived(tmp_path, server.files["/a.zip"].data)


def test_expired_certificate(
    loopback: ModuleType, sources: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, both = certificate(tmp_path, "20200101000000Z", "20200201000000Z")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
    with loopback.serving(both) as server:
        with pytest.raises(HttpError, match=r"certificate has expired"):
            get(server, sources, tmp_path)
        assert server.log == []


# --------------------------------------------------------------------------------------------------- mirrors, proxies


def test_hosts_from_the_environment(server: Any, served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("US43D_HOSTS", f"zenodo.org={server.base}")
    download(Remote("a.zip", "https://zenodo.org/a.zip?download=1"), tmp_path, Web())
    assert arrived(tmp_path, served.data)
    monkeypatch.setenv("US43D_HOSTS", "zenodo.org")
    with pytest.raises(ConfigError, match=r"US43D_HOSTS has 'zenodo.org'"):
        Web()


def test_proxy_and_no_proxy(
    server: Any, served: Any, loopback: ModuleType, sources: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback.serving() as proxy:
        proxy.files["http://data.example/a.zip"] = served
        monkeypatch.setenv("http_proxy", proxy.base)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        download(Remote("a.zip", "http://data.example/a.zip"), tmp_path / "one", sources.patient())
        assert len(proxy.log) == 1
        get(server, sources, tmp_path / "two")
        assert len(proxy.log) == 1
        assert len(server.log) == 1


def test_proxy_that_is_not_there(sources: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(HttpError, match="proxy set in the environment") as caught:
        download(Remote("a.zip", "http://data.example/a.zip"), tmp_path, sources.patient())
    assert "HTTPS_PROXY" in caught.value.next


def test_no_more_streams_to_a_host_than_allowed(
    server: Any, loopback: ModuleType, sources: ModuleType, tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    web = sources.patient(per_host=2)
    running = most = 0

    def watch(done: int, total: int | None) -> None:
        nonlocal most
        most = max(most, running)

    def one(n: int) -> None:
        nonlocal running
        server.files[f"/{n}.zip"] = loopback.Served(sources.archive(n, 20_000), drip=(5000, 0.02))
        with web.open(f"{server.base}/{n}.zip") as answer:
            running += 1
            watch(0, None)
            answer.content  # noqa: B018
            running -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert most == 2


def test_parts_of_others(server: Any, served: Any, sources: ModuleType, tmp_path: Path) -> None:
    """A part of a living process stays as it is, one of another machine is copied, one of a dead process taken over."""
    served.cut = [1_000_000, *[0] * 20]
    with pytest.raises(FetchError, match="broke off"):
        get(server, sources, tmp_path)
    (mine,) = parts(tmp_path)
    note = mine.with_name(f"{mine.name}.json").read_bytes()
    stem, token, rest = mine.name.split(".", 2)
    machine, pid, start, lot = token.split("-")

    def leave(owner: str) -> Path:
        for old in parts(tmp_path):
            old.unlink()
        path = mine.with_name(f"{stem}.{owner}.{rest}")
        path.write_bytes(served.data[:1_000_000])
        path.with_name(f"{path.name}.json").write_bytes(note)
        return path

    mine.with_name(f"{mine.name}.json").unlink()
    living = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]
    for owner, begins, stays in (
        (f"{machine}-{os.getppid()}-{living}-{lot}", 0, True),
        (f"00000000-{pid}-{start}-{lot}", 1_000_000, True),
        (f"{machine}-{pid}-1-{lot}", 1_000_000, False),
    ):
        part = leave(owner)
        served.cut = []
        server.log.clear()
        get(server, sources, tmp_path)
        assert (tmp_path / "a.zip").read_bytes() == served.data
        assert [each.start for each in server.asked("/a.zip")] == [begins], owner
        assert part.exists() == stays


@pytest.mark.parametrize(
    "name", ["../a.zip", "/etc/passwd", "a/../../b", "a\\b", "", "a//b", "a\nb", ".parts/x", "receipt.json", "b/.lock"]
)
def test_names_hosts_may_not_give(name: str) -> None:
    with pytest.raises(FetchError, match="cannot be used"):
        Remote(name, "http://127.0.0.1/")
    if name:
        with pytest.raises(FetchError, match="cannot be used"):
            Remote("a.zip", "http://127.0.0.1/", into=name)


def test_owners() -> None:
    from us43d.fetch import owner

    with owner.claim() as token:
        assert owner.ended(token) is False
        machine, pid, start, lot = token.split("-")
    assert owner.ended(token) is True
    ended = subprocess.Popen(["true"])
    while Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert owner.ended(f"{machine}-{ended.pid}-{start}-{lot}") is True  # dead, though its parent has not looked
    ended.wait()
    assert owner.ended(f"{machine}-{ended.pid}-{start}-{lot}") is True
    assert owner.ended(f"{machine}-{os.getppid()}-0-{lot}") is False  # nobody knows when it was started
    assert owner.ended(f"{machine}-{pid}-{int(start) + 1}-{lot}") is True  # its number was given out again
    assert owner.ended(f"00000000-{pid}-{start}-{lot}") is None
    assert owner.ended("a.zip") is None
