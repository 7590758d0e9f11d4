"""Every host's module against a fake of its API: what it lists, and that the addresses give the bytes."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from us43d.contract import RawFile, Route, RouteKind
from us43d.errors import FetchError, LoginError, ManualFileError, VerifyError
from us43d.fetch import hosts as hosts_module
from us43d.fetch.hosts import resolve
from us43d.fetch.hosts.github import pointer
from us43d.fetch.http import Remote, Web

NewWeb = Callable[[], Web]
FILES = {"images.zip": b"PK-images", "table.csv": b"a,b\n1,2\n", "notes/read me.txt": b"hello", "masks.7z": b"7z"}
FLAT = {name: data for name, data in FILES.items() if "/" not in name}


def fetched(remotes: list[Remote], web: Web) -> dict[str, bytes]:
    """The bytes of every file, which have the size and digests that were told."""
    found = {}
    for remote in remotes:
        with web.open(remote.url, headers=remote.headers) as answer:
            data = answer.content
        assert remote.size in (None, len(data)), remote
        assert remote.md5 in (None, hashlib.md5(data, usedforsecurity=False).hexdigest()), remote
        assert remote.sha256 in (None, hashlib.sha256(data).hexdigest()), remote
        found[remote.name] = data
    return found


# ------------------------------------------------------------------------------------------------------- Zenodo


@pytest.mark.parametrize("form", ["present", "old", "apart"])
def test_zenodo(form: str, hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.zenodo(hosts, "8231412", FLAT, form=form)
    remotes = resolve(Route(kind="zenodo", record="8231412"), web())
    assert fetched(remotes, web()) == FLAT
    assert all(remote.size and remote.md5 for remote in remotes)
    assert {remote.name: remote.unpack for remote in remotes} == {
        "images.zip": True,
        "masks.7z": True,
        "table.csv": False,
    }
    (only,) = resolve(Route(kind="zenodo", record="8231412", files=(RawFile(name="images.zip", into="x"),)), web())
    assert (only.size, only.into, only.unpack) == (9, "x", True)


def test_zenodo_when_its_api_is_down(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.zenodo(hosts, "8231412", FLAT, down=True)
    known = RawFile(name="images.zip", url="https://zenodo.org/records/8231412/files/images.zip?download=1")
    assert fetched(resolve(Route(kind="zenodo", record="8231412", files=(known,)), web()), web()) == {
        "images.zip": b"PK-images"
    }
    with pytest.raises(FetchError, match="504"):
        resolve(Route(kind="zenodo", record="8231412"), web())


def test_zenodo_restricted_missing_and_changed(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.zenodo(hosts, "1111", FLAT, access="restricted")
    fakes.zenodo(hosts, "2222", FLAT)
    with pytest.raises(ManualFileError, match=r"restricted\.\n  1\. Open https://zenodo\.org/records/1111"):
        resolve(Route(kind="zenodo", record="1111", url="https://zenodo.org/records/1111"), web())
    with pytest.raises(FetchError, match=r"holds no other\.zip; it has images\.zip, masks\.7z, table\.csv"):
        resolve(Route(kind="zenodo", record="2222", files=(RawFile(name="other.zip"),)), web())
    with pytest.raises(VerifyError, match=r"has another images\.zip: its md5 is"):
        resolve(Route(kind="zenodo", record="2222", files=(RawFile(name="images.zip", md5="0" * 32),)), web())
    with pytest.raises(FetchError, match="404"):
        resolve(Route(kind="zenodo", record="3333"), web())
    with pytest.raises(FetchError, match="is not a Zenodo record"):
        resolve(Route(kind="zenodo", record="none"), web())


# ----------------------------------------------------------------------------------------------------- Mendeley


def test_mendeley(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.mendeley(hosts, "7fvgj4jsp7", "3", FILES)
    remotes = resolve(Route(kind="mendeley", record="7fvgj4jsp7/3"), web())
    assert fetched(remotes, web()) == FILES
    assert all(remote.size and remote.sha256 for remote in remotes)
    archive = RawFile(name="7fvgj4jsp7-3.zip", generated=True)
    (whole,) = resolve(Route(kind="mendeley", record="7fvgj4jsp7/3", files=(archive,)), web())
    assert (fetched([whole], web()), whole.generated) == ({"7fvgj4jsp7-3.zip": b"PK-all"}, True)


@pytest.mark.parametrize("turns", [True, False])
def test_mendeley_lists_every_page_of_a_folder_or_says_so(
    turns: bool, hosts: Any, fakes: ModuleType, web: NewWeb
) -> None:
    """As with the 1,100 images of CCAUI in one folder."""
    files = {f"images/{n}.png": b"%d" % n for n in range(1100)} | {"masks/1.png": b"x"}
    fakes.mendeley(hosts, "d4xt63mgjm", "1", files, turns=turns)
    route = Route(kind="mendeley", record="d4xt63mgjm/1")
    if turns:
        assert {remote.name for remote in resolve(route, web())} == set(files)
    else:
        with pytest.raises(FetchError, match="lists only the first 1,000 files of a folder"):
            resolve(route, web())


def test_mendeley_gives_single_files_where_it_refuses_the_zip(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.mendeley(hosts, "7fvgj4jsp7", "3", FILES, refuses="zip")
    route = Route(kind="mendeley", record="7fvgj4jsp7/3", files=(RawFile(name="7fvgj4jsp7-3.zip", generated=True),))
    assert fetched(resolve(route, web()), web()) == FILES


@pytest.mark.parametrize("refuses", ["all", "page"])
def test_mendeley_refuses_scripts(refuses: str, hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.mendeley(hosts, "7fvgj4jsp7", "3", FILES, refuses=refuses)
    page = "https://data.mendeley.com/datasets/7fvgj4jsp7/3"
    with pytest.raises(
        ManualFileError, match=rf"a browser is let through\.\n  1\. Open {page} in a browser\.\n  2\. .*Download all"
    ):
        resolve(Route(kind="mendeley", record="7fvgj4jsp7/3", url=page), web())


# ------------------------------------------------------------------------------------------------------- Kaggle

WHOLE = {"datasets/download/owner/some-slug": b"PK-whole", "datasets/download/owner/some-slug/part.z01": b"part"}


def test_kaggle_data_set(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.kaggle(hosts, WHOLE)
    bare = resolve(Route(kind="kaggle", record="owner/some-slug"), web())
    assert fetched(bare, web()) == {"some-slug.zip": b"PK-whole"}
    files = (RawFile(name="some-slug.zip"), RawFile(name="part.z01"))
    assert fetched(resolve(Route(kind="kaggle", record="owner/some-slug@2", files=files), web()), web()) == {
        "some-slug.zip": b"PK-whole",
        "part.z01": b"part",
    }
    assert hosts.asked("www.kaggle.com")[-1].query == {"datasetVersionNumber": "2"}


def test_kaggle_asks_for_a_login(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.kaggle(hosts, WHOLE, public=False)
    with pytest.raises(
        LoginError, match=r"no credentials were found\.\n  1\. Make a free account(.|\n)*kaggle\.com/settings"
    ):
        resolve(Route(kind="kaggle", record="owner/some-slug"), web())
    with pytest.raises(FetchError, match="is not a dataset of Kaggle"):
        resolve(Route(kind="kaggle", record="nothing"), web())


@pytest.mark.parametrize("way", ["token in the environment", "token file", "name and key", "kaggle.json", "XDG"])
def test_kaggle_credentials(
    way: str, hosts: Any, fakes: ModuleType, web: NewWeb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fakes.kaggle(hosts, WHOLE, public=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kaggle").mkdir()
    if way == "token in the environment":
        monkeypatch.setenv("KAGGLE_API_TOKEN", "good")
    elif way == "token file":
        (tmp_path / ".kaggle" / "access_token").write_text("good\n")
    elif way == "name and key":
        monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
        monkeypatch.setenv("KAGGLE_KEY", "key")
    else:
        folder = tmp_path / ".kaggle" if way == "kaggle.json" else tmp_path / ".config" / "kaggle"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kaggle.json").write_text(json.dumps({"username": "somebody", "key": "key"}))
    remotes = resolve(Route(kind="kaggle", record="owner/some-slug"), web())
    assert fetched(remotes, web()) == {"some-slug.zip": b"PK-whole"}


def test_kaggle_bad_credentials(
    hosts: Any, fakes: ModuleType, web: NewWeb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fakes.kaggle(hosts, WHOLE)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "old")
    with pytest.raises(LoginError, match=r"does not accept the credentials(.|\n)*make a new token"):
        resolve(Route(kind="kaggle", record="owner/some-slug"), web())
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "kaggle.json").write_text("not json")
    with pytest.raises(FetchError, match=r"kaggle\.json is not valid JSON"):
        resolve(Route(kind="kaggle", record="owner/some-slug"), web())


@pytest.mark.parametrize("rules", [True, False])
def test_kaggle_competition(
    rules: bool, hosts: Any, fakes: ModuleType, web: NewWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.kaggle(hosts, {"competitions/data/download-all/some-race": b"PK-race"}, rules=rules)
    route = Route(kind="kaggle_competition", record="some-race", files=(RawFile(name="some-race.zip"),))
    with pytest.raises(LoginError, match="no credentials"):
        resolve(route, web())
    monkeypatch.setenv("KAGGLE_API_TOKEN", "good")
    if rules:
        assert fetched(resolve(route, web()), web()) == {"some-race.zip": b"PK-race"}
    else:
        with pytest.raises(
            LoginError, match=r"(.|\n)*Open https://www\.kaggle\.com/competitions/some-race/rules and accept"
        ):
            resolve(route, web())


# ------------------------------------------------------------------------------------------------------- GitHub

COMMIT = "ba4a898d6c42fdfb5aa2b122742fd4cf6195349b"


def test_github_archives(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.github(hosts, "owner/repo", COMMIT, {})
    for record in (f"owner/repo@{COMMIT}", "owner/repo"):
        (remote,) = resolve(Route(kind="github", record=record), web())
        assert remote.generated
        assert fetched([remote], web()) == {f"repo-{COMMIT}.zip": b"PK-archive"}
    with pytest.raises(FetchError, match="is not a GitHub repository"):
        resolve(Route(kind="github", record="repo"), web())


def test_github_files_and_lfs(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    files = {"data/plain.csv": b"a,b\n", "data/large.rar": b"Rar!" * 2000, "data/kept.rar": b"Rar!" * 3000}
    fakes.github(hosts, "owner/repo", COMMIT, files, lfs=("data/kept.rar",))
    raw = tuple(
        RawFile(name=name.split("/")[1], url=f"https://raw.githubusercontent.com/owner/repo/{COMMIT}/{name}")
        for name in files
    )
    remotes = resolve(Route(kind="github", record=f"owner/repo@{COMMIT}", files=raw), web())
    assert fetched(remotes, web()) == {name.split("/")[1]: data for name, data in files.items()}
    assert [remote.size for remote in remotes] == [None, 8000, 12000]
    assert remotes[2].sha256 == hashlib.sha256(files["data/kept.rar"]).hexdigest()
    assert len([each for each in hosts.asked("github.com") if each.method == "POST"]) == 1


def test_github_lfs_without_quota(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.github(hosts, "owner/repo", COMMIT, {"kept.rar": b"Rar!" * 3000}, lfs=("kept.rar",), quota=True)
    file = RawFile(name="kept.rar", url=f"https://raw.githubusercontent.com/owner/repo/{COMMIT}/kept.rar")
    with pytest.raises(FetchError, match=r"kept in Git LFS, which refuses the download: .* over its data quota"):
        resolve(Route(kind="github", record="owner/repo", files=(file,)), web())


def test_pointers() -> None:
    text = b"version https://git-lfs.github.com/spec/v1\next-0-foo sha256:00\noid sha256:%b\nsize 12\n" % (b"a" * 64)
    assert pointer(text) == ("a" * 64, 12)
    assert pointer(b"x" + text) is None
    assert pointer(text + b" " * 1024) is None


# ------------------------------------------------------------------------------------------------- Google Drive

ID = "1wwlsEhwfSyvQsJBRjeDLhUjqZh8eaH2R"
DRIVE = Route(kind="gdrive", record=ID, url=f"https://drive.google.com/uc?id={ID}", files=(RawFile(name="DDTI.zip"),))


@pytest.mark.parametrize("state", ["small", "large"])
def test_gdrive_file(state: str, hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.gdrive(hosts, ID, b"PK-drive", state=state)
    assert fetched(resolve(DRIVE, web()), web()) == {"DDTI.zip": b"PK-drive"}


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [
        ("quota", FetchError, r"is over its download quota \(Too many users(.|\n)*in 24 hours"),
        ("private", ManualFileError, r"is not public \(any more\)\.\n  1\. Open https://drive\.google\.com/uc"),
        ("broken", FetchError, r"responds for file \w+: Sorry\.\.\.(.|\n)*in a browser"),
    ],
)
def test_gdrive_pages_that_are_no_file(
    state: str, kind: type[Exception], said: str, hosts: Any, fakes: ModuleType, web: NewWeb
) -> None:
    fakes.gdrive(hosts, ID, b"", state=state)
    with pytest.raises(kind, match=said):
        resolve(DRIVE, web())


def test_gdrive_folder_of_more_than_fifty(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    files = {f"images/{n:04}.png": b"%d" % n for n in range(120)}
    files |= {"a & b.zip": b"PK", "images/deep/more.csv": b"x"}
    fakes.gdrive_folder(hosts, ID, files)
    route = Route(kind="gdrive", record=ID, url=f"https://drive.google.com/drive/folders/{ID}")
    remotes = resolve(route, web())
    assert {remote.name for remote in remotes} == set(files)
    assert fetched(remotes[:3] + remotes[-3:], web()).items() <= files.items()
    (one,) = resolve(route.model_copy(update={"files": (RawFile(name="a & b.zip"),)}), web())
    assert one.unpack


# ----------------------------------------------------------------------------------------------------- OneDrive

SHARE = "https://onedrive.live.com/?authkey=%21AMIr&id=72A%2191&cid=72A"


def test_onedrive_file(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.onedrive(hosts, "72A!91", {"Other name.zip": b"PK-one"})
    route = Route(kind="onedrive", record="72A!91", url=SHARE, files=(RawFile(name="DataArrays.zip"),))
    (remote,) = resolve(route, web())
    assert fetched([remote], web()) == {"DataArrays.zip": b"PK-one"}
    assert remote.sha256
    assert hosts.asked("api.onedrive.com")[0].query == {"authkey": "!AMIr"}


def test_onedrive_folder_in_pages(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    link = "https://1drv.ms/f/s!short"
    fakes.onedrive(hosts, "u!aHR0cHM6Ly8xZHJ2Lm1zL2YvcyFzaG9ydA", FLAT, folder=True)
    assert fetched(resolve(Route(kind="onedrive", url=link), web()), web()) == FLAT


def test_onedrive_share_that_was_moved(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.onedrive(hosts, "72A!91", {}, moved=True)
    with pytest.raises(ManualFileError, match=r"does not give this share to a script(.|\n)*  3\. Press Download"):
        resolve(Route(kind="onedrive", url=SHARE), web())


# ------------------------------------------------------------------------------------- Figshare, Girder, Dataverse


def test_figshare(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    files = {f"{n:03}.png": b"%d" % n for n in range(230)}
    fakes.figshare(hosts, "25058690", files)
    remotes = resolve(Route(kind="figshare", record="25058690"), web())
    assert len(remotes) == 230
    assert len(hosts.asked("api.figshare.com")) == 3
    assert fetched(remotes[:2] + remotes[-1:], web()).items() <= files.items()
    assert all(remote.md5 for remote in remotes)
    (first,) = resolve(Route(kind="figshare", url="https://doi.org/10.6084/m9.figshare.25058690.v1"), web())
    assert first.name == "000.png"
    with pytest.raises(FetchError, match="404"):
        resolve(Route(kind="figshare", record="99999999"), web())


def test_girder(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    files = {f"patient{n:04}/{view}.nii.gz": b"%d" % n for n in range(60) for view in ("2CH", "4CH")}
    top = "6373703d73e9f0047faa1bc8"
    fakes.girder(hosts, "heart.example.org", "database/", top, files)
    route = Route(
        kind="girder", record=f"collection/{top}", url=f"https://heart.example.org/database/#collection/{top}"
    )
    remotes = resolve(route, web())
    assert {remote.name for remote in remotes} == set(files)
    assert fetched(remotes[:3], web()).items() <= files.items()
    base = "https://heart.example.org/database/api/v1"
    name = "patient0007/4CH.nii.gz"
    key = fakes.md5(name.encode())[:24]
    named = (
        RawFile(name="all.zip", url=f"{base}/collection/{top}/download", generated=True),
        RawFile(name="one.nii.gz", url=f"{base}/file/{key}/download"),
    )
    found = resolve(route.model_copy(update={"files": named}), web())
    assert [remote.size for remote in found] == [None, 1]
    assert fetched(found, web()) == {"all.zip": b"PK-on-the-fly", "one.nii.gz": b"7"}


def test_dataverse(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    files = {**FILES, "arrays.npz": b"npz"}
    fakes.dataverse(hosts, "dataverse.example.org", "10.7910/DVN/XYZ", files)
    route = Route(kind="dataverse", record="doi:10.7910/DVN/XYZ", url="https://dataverse.example.org/dataset.xhtml")
    remotes = resolve(route, web())
    assert fetched(remotes, web()) == files
    told = {remote.name: (remote.md5 is not None, remote.sha256 is not None) for remote in remotes}
    assert told["images.zip"] == (True, False)
    assert told["arrays.npz"] == (False, True)
    assert told["table.csv"] == (False, False)


def test_dataverse_restricted(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.dataverse(hosts, "dataverse.example.org", "10.7910/DVN/XYZ", FILES, restricted=("images.zip",))
    route = Route(kind="dataverse", record="10.7910/DVN/XYZ", url="https://dataverse.example.org/dataset.xhtml")
    with pytest.raises(ManualFileError, match="are restricted"):
        resolve(route, web())
    open_one = route.model_copy(update={"files": (RawFile(name="table.csv"),)})
    assert fetched(resolve(open_one, web()), web()) == {"table.csv": FILES["table.csv"]}


# --------------------------------------------------------------------------------------------------------- OSF


def test_osf(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    """Every folder and every page, with sizes and digests; a folder by its id; a file by its name."""
    files = {**FILES, **{f"Case{n}/Case{n}-US.nii.gz": b"%d" % n for n in range(23)}, "Case1/more/a.nii.gz": b"deep"}
    ids = fakes.osf(hosts, "jv8bk", files)
    remotes = resolve(Route(kind="osf", record="jv8bk", url="https://osf.io/jv8bk"), web())
    assert fetched(remotes, web()) == files
    assert all(remote.size and remote.md5 and remote.sha256 for remote in remotes)
    inside = resolve(Route(kind="osf", record=f"jv8bk/{ids['Case1']}"), web())
    assert {remote.name for remote in inside} == {"Case1-US.nii.gz", "more/a.nii.gz"}
    other = RawFile(name="b.nii.gz", url="https://example.org/b.nii.gz", unpack=False)  # on another host
    both = resolve(Route(kind="osf", record=f"jv8bk/{ids['Case2']}", files=(other,)), web())
    assert [(remote.name, remote.url == other.url) for remote in both] == [
        ("Case2-US.nii.gz", False),
        (other.name, True),
    ]
    (one,) = resolve(Route(kind="osf", record="jv8bk", files=(RawFile(name="images.zip"),)), web())
    assert (one.name, one.size, one.unpack) == ("images.zip", len(FILES["images.zip"]), True)
    with pytest.raises(FetchError, match=r"OSF jv8bk holds no other\.zip"):
        resolve(Route(kind="osf", record="jv8bk", files=(RawFile(name="other.zip"),)), web())


def test_osf_private_missing_and_invalid(hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.osf(hosts, "aaaaa", FILES, private=True)
    with pytest.raises(ManualFileError, match="The OSF project aaaaa is private"):
        resolve(Route(kind="osf", record="aaaaa", url="https://osf.io/aaaaa"), web())
    with pytest.raises(FetchError, match="is not an OSF project"):
        resolve(Route(kind="osf", record="osf jv8bk"), web())
    hosts.hosts["api.osf.io"] = [lambda asked: fakes.as_json({"data": [{"id": "x"}], "links": {}})]
    with pytest.raises(FetchError, match="answers in a form that us43d does not know"):
        resolve(Route(kind="osf", record="bbbbb"), web())


# ------------------------------------------------------------------------------------------------------ others


def test_every_kind_of_route_is_resolved_or_has_steps() -> None:
    """A kind that the schema accepts and no module resolves would end in a message about the host's answer."""
    assert set(get_args(RouteKind)) == set(hosts_module._HOSTS)


@pytest.mark.parametrize(
    ("kind", "record", "step"),
    [
        ("synapse", "syn51186045", "run: synapse get -r syn51186045"),
        ("torrent", "eeb1fb0e2e0e7bb8c6873f3357e45b545cba9fac", "into a torrent client"),
    ],
)
def test_clients_that_a_person_must_run(kind: Any, record: str, step: str, web: NewWeb) -> None:
    route = Route(kind=kind, record=record, url="https://host.example.org", files=(RawFile(name="all.zip"),))
    with pytest.raises(ManualFileError, match=r"\n  1\. Open https://host\.example\.org in a browser") as error:
        resolve(route, web())
    assert record in error.value.what
    assert step in error.value.what
    assert error.value.what.endswith("Put all.zip, packed or unpacked, into the downloads folder of this source.")


@pytest.mark.parametrize("kind", ["grand_challenge", "stanford_aimi", "manual"])
def test_by_hand(kind: Any, web: NewWeb) -> None:
    route = Route(kind=kind, url="https://portal.example.org", files=(RawFile(name="all.zip"),), note="Ask nicely.")
    with pytest.raises(ManualFileError, match=r"\n  1\. Open https://portal\.example\.org in a browser") as error:
        resolve(route, web())
    assert error.value.what.endswith(". Put all.zip, packed or unpacked, into the downloads folder of this source.")
    assert "Ask nicely." in error.value.what


def test_plain(web: NewWeb) -> None:
    file = RawFile(name="a.zip", url="https://example.org/a.zip", size=3, sha256="0" * 64, generated=True, into="x")
    for kind in ("http", "tcia"):
        (remote,) = resolve(Route(kind=kind, files=(file,)), web())  # type: ignore[arg-type]
        assert (remote.name, remote.url, remote.size, remote.sha256, remote.generated, remote.into) == (
            "a.zip", "https://example.org/a.zip", 3, "0" * 64, True, "x",
        )  # fmt: skip
    with pytest.raises(FetchError, match="No file is known"):
        resolve(Route(kind="http", url="https://example.org"), web())


@pytest.mark.parametrize("name", ["../out.zip", "/etc/passwd", "a/../../b", "a\\b", "receipt.json"])
def test_names_of_hosts_do_not_lead_out(name: str, hosts: Any, fakes: ModuleType, web: NewWeb) -> None:
    fakes.zenodo(hosts, "8231412", {name: b"evil"})
    with pytest.raises(FetchError, match="not a valid file name"):
        resolve(Route(kind="zenodo", record="8231412"), web())
