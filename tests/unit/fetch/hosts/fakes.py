"""Each host's API on loopback, behaving as it is documented: pages, redirects, tokens, checksums, errors."""

import base64
import hashlib
import html
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = Mapping[str, bytes]


@dataclass
class Asked:
    """A request. query: the last value of each parameter."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def as_json(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


def page(body: str, title: str = "A page", status: int = 200) -> Answer:
    text = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{body}</body></html>"
    return Answer(text.encode(), status, {"Content-Type": "text/html; charset=utf-8"})


def attachment(data: bytes, name: str) -> Answer:
    kind = {"Content-Type": "application/octet-stream", "Content-Disposition": f'attachment; filename="{name}"'}
    return Answer(data, 200, kind)


def redirect(to: str) -> Answer:
    return Answer(b"", 302, {"Location": to})


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


Handler = Callable[[Asked], Answer | None]


class Fakes:
    """One server that plays many hosts: the first part of each path says which."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.hosts: dict[str, list[Handler]] = {}
        self.log: list[Asked] = []

    def at(self, host: str, handler: Handler) -> None:
        self.hosts.setdefault(host, []).append(handler)

    @property
    def bases(self) -> dict[str, str]:
        return {host: f"{self.base}/{host}" for host in self.hosts}

    def answer(self, asked: Asked) -> Answer:
        self.log.append(asked)
        for handler in self.hosts.get(asked.host, ()):
            if (found := handler(asked)) is not None:
                return found
        return page("Nothing is here.", "404 Not Found", 404)

    def asked(self, host: str) -> list[Asked]:
        return [each for each in self.log if each.host == host]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    server: Any

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        _, host, path = parts.path.split("/", 2)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(self.command, host, unquote(path), query, {k.lower(): v for k, v in self.headers.items()}, body)
        answer = self.server.fakes.answer(asked)
        data = answer.body
        start = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status = answer.status
        if start and status == 200:
            end = int(start[2]) + 1 if start[2] else len(data)
            answer.headers["Content-Range"] = f"bytes {start[1]}-{min(end, len(data)) - 1}/{len(data)}"
            data, status = data[int(start[1]) : end], 206
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    do_POST = do_GET
    do_HEAD = do_GET


@contextmanager
def serving() -> Iterator[Fakes]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    fakes = Fakes(f"http://127.0.0.1:{server.server_address[1]}")
    server.fakes = fakes  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fakes
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def static(fakes: Fakes, address: str, data: bytes) -> None:
    """A file at an address of its own."""
    parts = urlsplit(address)
    wanted = {key: values[-1] for key, values in parse_qs(parts.query).items()}

    def serve(asked: Asked) -> Answer | None:
        if asked.path != unquote(parts.path).lstrip("/") or any(asked.query.get(k) != v for k, v in wanted.items()):
            return None
        return attachment(data, asked.path.rsplit("/", 1)[-1])

    fakes.at(parts.hostname or "", serve)


# -------------------------------------------------------------------------------------------------------------- Zenodo


def zenodo(
    fakes: Fakes,
    number: str,
    files: Files,
    *,
    form: str = "present",
    access: str = "open",
    down: bool = False,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """form: "present" (files in the record), "old" (before 2023), "apart" (InvenioRDM's own, in pages of two)."""
    host = "zenodo.org"

    def entry(name: str) -> dict[str, Any]:
        data = files[name]
        told = {"size": len(data), "md5": md5(data), **((facts or {}).get(name) or {})}
        if form == "old":
            link = f"https://{host}/api/files/abc/{name}"
            return {"filename": name, "filesize": told["size"], "checksum": told["md5"], "links": {"download": link}}
        link = f"https://{host}/api/records/{number}/files/{name}"
        links = {"self": f"{link}/content"} if form == "present" else {"self": link, "content": f"{link}/content"}
        return {"key": name, "size": told["size"], "checksum": f"md5:{told['md5']}", "links": links}

    def serve(asked: Asked) -> Answer | None:
        if down and asked.path.startswith("api/records"):
            return page("Down", "504 Gateway Time-out", 504)
        if asked.path == f"api/records/{number}":
            record: dict[str, Any] = {"id": int(number), "metadata": {"access_right": access}}
            if access == "open":
                record["files"] = {"enabled": True} if form == "apart" else [entry(name) for name in files]
            return as_json(record)
        if asked.path == f"api/records/{number}/files":
            at = int(asked.query.get("page", "1")) - 1
            names = list(files)[2 * at : 2 * at + 2]
            following = f"https://{host}/api/records/{number}/files?page={at + 2}"
            links = {"next": following} if 2 * at + 2 < len(files) else {}
            return as_json({"entries": [entry(name) for name in names], "links": links})
        found = re.fullmatch(r"(?:api/)?(?:records/\d+/files|files/abc)/(.+?)(?:/content)?", asked.path)
        if found and found[1] in files:
            return attachment(files[found[1]], found[1])
        return None

    fakes.at(host, serve)


# ------------------------------------------------------------------------------------------------------------ Mendeley


def mendeley(
    fakes: Fakes,
    record: str,
    version: str,
    files: Files,
    *,
    refuses: str = "",
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    turns: bool = True,
) -> None:
    """files: paths. turns: whether it gives the files of a folder beyond the first thousand.

    refuses: "zip" (the zip of all answers 403), "all" (everything does), "page" (a page, with 200).
    """
    host, store = "data.mendeley.com", "prod-dcd-datasets-public-files-eu-west-1.s3.eu-west-1.amazonaws.com"
    folders = sorted({"/".join(name.split("/")[:depth]) for name in files for depth in range(1, name.count("/") + 1)})
    ids = {folder: f"f{n}" for n, folder in enumerate(folders)}

    def serve(asked: Asked) -> Answer | None:
        if refuses == "all":
            return page("Request blocked", "ERROR: The request could not be satisfied", 403)
        if refuses == "page":
            return page("Enable JavaScript and cookies to continue", "Just a moment...")
        if asked.path == f"public-api/datasets/{record}/folders/{version}":
            return as_json(
                [
                    {
                        "id": ids[folder],
                        "name": folder.rsplit("/", 1)[-1],
                        "parent_id": ids.get(folder.rpartition("/")[0]),
                    }
                    for folder in folders
                ]
            )
        if asked.path == f"public-api/datasets/{record}/files" and asked.query.get("version") == version:
            inside = {"root": "", **{key: folder for folder, key in ids.items()}}[asked.query["folder_id"]]
            begin = int(asked.query.get("offset", "0")) if turns else 0
            entries = [
                _mendeley_entry(record, name, files[name], (facts or {}).get(name, {}))
                for name in files
                if name.rpartition("/")[0] == inside
            ]
            return as_json(entries[begin : begin + 1000])
        if found := re.fullmatch(rf"public-files/datasets/{record}/files/(\w+)/file_downloaded", asked.path):
            return redirect(f"https://{store}/{found[1]}")
        if asked.path == f"public-api/zip/{record}/download/{version}":
            if refuses == "zip":
                return page("AccessDenied", "403", 403)
            return attachment(b"PK-all", f"{record}-{version}.zip")
        return None

    def bucket(asked: Asked) -> Answer | None:
        for name, data in files.items():
            if md5(name.encode()) == asked.path:
                return attachment(data, name.rsplit("/", 1)[-1])
        return None

    def cache(asked: Asked) -> Answer | None:
        if asked.path == f"{record}-{version}.zip" and not refuses:
            return attachment(b"PK-all", asked.path)
        return Answer(b"<Error><Code>AccessDenied</Code></Error>", 403, {"Content-Type": "application/xml"})

    fakes.at(host, serve)
    fakes.at(store, bucket)
    fakes.at("prod-dcd-datasets-cache-zipfiles.s3.eu-west-1.amazonaws.com", cache)


def _mendeley_entry(record: str, name: str, data: bytes, facts: Mapping[str, Any]) -> dict[str, Any]:
    key = md5(name.encode())
    url = f"https://data.mendeley.com/public-files/datasets/{record}/files/{key}/file_downloaded"
    details = {"id": key, "size": len(data), "sha256_hash": facts.get("sha256") or sha256(data), "download_url": url}
    return {"filename": name.rsplit("/", 1)[-1], "id": key, "size": len(data), "content_details": details}


# -------------------------------------------------------------------------------------------------------------- Kaggle


def kaggle(
    fakes: Fakes, data: Mapping[str, bytes], *, public: bool = True, token: str = "good", rules: bool = True
) -> None:
    """data: path below /api/v1/ → bytes. public: without a login. rules: whether they were accepted."""
    basic = base64.b64encode(b"somebody:key").decode()

    def serve(asked: Asked) -> Answer | None:
        if not asked.path.startswith("api/v1/"):
            return None
        given = asked.headers.get("authorization")
        if given not in (None, f"Bearer {token}", f"Basic {basic}"):
            return as_json({"code": 401, "message": "Unauthorized"}, 401)
        competes = "competitions" in asked.path
        if given is None and (competes or not public):
            return as_json({"code": 401 if competes else 403, "message": "Unauthenticated"}, 401 if competes else 403)
        if competes and not rules:
            said = "You must accept this competition's rules before you'll be able to download files."
            return as_json({"code": 403, "message": said}, 403)
        path = asked.path.removeprefix("api/v1/")
        return redirect(f"https://storage.googleapis.com/kaggle-data-sets/{path}") if path in data else None

    def store(asked: Asked) -> Answer | None:
        assert "authorization" not in asked.headers  # the key stays with Kaggle
        return attachment(data[asked.path.removeprefix("kaggle-data-sets/")], "archive.zip")

    fakes.at("www.kaggle.com", serve)
    fakes.at("storage.googleapis.com", store)


# -------------------------------------------------------------------------------------------------------------- GitHub


def github(
    fakes: Fakes, repo: str, commit: str, files: Files, *, lfs: tuple[str, ...] = (), quota: bool = False
) -> None:
    """lfs: files of which the repository holds pointers only. quota: the owner's LFS quota is used up."""

    def api(asked: Asked) -> Answer | None:
        return as_json({"sha": commit}) if asked.path == f"repos/{repo}/commits/HEAD" else None

    def raw(asked: Asked) -> Answer | None:
        name = asked.path.removeprefix(f"{repo}/{commit}/")
        if name not in files:
            return None
        data = files[name]
        if name in lfs:
            data = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(data)}\nsize {len(data)}\n".encode()
        return Answer(data, 200, {"Content-Type": "text/plain"})

    def codeload(asked: Asked) -> Answer | None:
        return attachment(b"PK-archive", "x.zip") if asked.path == f"{repo}/zip/{commit}" else None

    def batch(asked: Asked) -> Answer | None:
        if asked.path != f"{repo}.git/info/lfs/objects/batch" or asked.method != "POST":
            return None
        assert asked.headers["accept"] == "application/vnd.git-lfs+json"
        told = json.loads(asked.body)
        assert told["operation"] == "download"
        (wanted,) = told["objects"]
        if quota:
            error = {"code": 509, "message": "This repository is over its data quota."}
            return as_json({"objects": [{**wanted, "error": error}]})
        href = f"https://github-cloud.githubusercontent.com/{wanted['oid']}"
        act = {"href": href, "header": {"X-Signed": "yes"}, "expires_in": 3600}
        return as_json(
            {"transfer": "basic", "objects": [{**wanted, "authenticated": True, "actions": {"download": act}}]}
        )

    def cloud(asked: Asked) -> Answer | None:
        found = {sha256(data): data for data in files.values()}.get(asked.path)
        return None if found is None or asked.headers.get("x-signed") != "yes" else Answer(found)

    for host, handler in (
        ("api.github.com", api),
        ("raw.githubusercontent.com", raw),
        ("codeload.github.com", codeload),
        ("github.com", batch),
        ("github-cloud.githubusercontent.com", cloud),
    ):
        fakes.at(host, handler)


# -------------------------------------------------------------------------------------------------------- Google Drive


def drive_id(name: str) -> str:
    return f"1{md5(name.encode())}"


def gdrive(fakes: Fakes, id: str, data: bytes, *, state: str = "small") -> None:
    """A file. state: "small", "large" (a confirm page comes first), "quota", "private", "broken"."""

    def drive(asked: Asked) -> Answer | None:
        if asked.path != "uc" or asked.query.get("id") != id:
            return None
        if state == "large":
            form = (
                '<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">'
                f'<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="{id}">'
                '<input type="hidden" name="export" value="download"><input type="hidden" name="confirm" value="t">'
                '<input type="hidden" name="uuid" value="5a1c-77"></form>'
            )
            return page(f"Google Drive can't scan this file for viruses.{form}", "Google Drive - Virus scan warning")
        if state == "quota":
            words = (
                '<p class="uc-error-caption">Sorry, you can&#39;t view or download this file at this time.</p>'
                '<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p>'
            )
            return page(words, "Google Drive - Quota exceeded")
        if state == "private":
            return redirect("https://accounts.google.com/ServiceLogin?continue=x")
        if state == "broken":
            return page("", "Sorry...")
        return redirect(f"https://drive.usercontent.google.com/download?id={id}&export=download")

    def content(asked: Asked) -> Answer | None:
        if asked.query.get("id") != id or (state == "large" and asked.query.get("confirm") != "t"):
            return None
        return attachment(data, "whatever.zip")

    fakes.at("drive.google.com", drive)
    fakes.at("drive.usercontent.google.com", content)
    fakes.at("accounts.google.com", lambda asked: page('<form action="ServiceLogin">', "Sign in - Google Accounts"))


def gdrive_folder(fakes: Fakes, id: str, files: Files) -> None:
    """A folder with folders in it, however long."""

    def inside(folder: str) -> str:
        links = []
        for name in files:
            if name.startswith(folder) and "/" not in name[len(folder) :]:
                links.append(
                    (f"https://drive.google.com/file/d/{drive_id(name)}/view?usp=drive_web", name[len(folder) :])
                )
        below = (name[len(folder) :] for name in files if name.startswith(folder))
        for sub in sorted({name.split("/")[0] for name in below if "/" in name}):
            links.append((f"https://drive.google.com/drive/folders/{drive_id(folder + sub + '/')}", sub))
        return "".join(
            f'<div class="flip-entry"><a href="{href}"><div>{html.escape(name)}</div></a></div>' for href, name in links
        )

    folders = {id: ""}
    for name in files:
        for depth in range(1, name.count("/") + 1):
            folder = "/".join(name.split("/")[:depth]) + "/"
            folders[drive_id(folder)] = folder

    def drive(asked: Asked) -> Answer | None:
        if asked.path != "embeddedfolderview" or asked.query.get("id") not in folders:
            return None
        return page(inside(folders[asked.query["id"]]), "data")

    fakes.at("drive.google.com", drive)
    for name, data in files.items():
        static(fakes, f"https://drive.usercontent.google.com/download?id={drive_id(name)}&confirm=t", data)


# ------------------------------------------------------------------------------------------------------------ OneDrive


def onedrive(fakes: Fakes, item: str, files: Files, *, folder: bool = False, moved: bool = False) -> None:
    """A file, or a folder of files in pages of two."""

    def entry(name: str) -> dict[str, Any]:
        url = f"https://public.files.1drv.com/{name}"
        told = {"name": name, "id": f"A!{name}", "size": len(files[name]), "@content.downloadUrl": url}
        return {**told, "file": {"hashes": {"sha256Hash": sha256(files[name]).upper()}}}

    def api(asked: Asked) -> Answer | None:
        if moved:
            return as_json({"error": {"code": "unauthenticated", "message": "User migrated"}}, 401)
        if asked.path in (f"v1.0/drives/{item.split('!')[0]}/items/{item}", f"v1.0/shares/{item}/driveItem"):
            return as_json(
                {"name": "all", "folder": {"childCount": len(files)}} if folder else entry(next(iter(files)))
            )
        if asked.path.endswith("/children"):
            at = int(asked.query.get("skip", "0"))
            answer: dict[str, Any] = {"value": [entry(name) for name in list(files)[at : at + 2]]}
            if at + 2 < len(files):
                answer["@odata.nextLink"] = f"https://api.onedrive.com/{asked.path}?skip={at + 2}"
            return as_json(answer)
        return None

    fakes.at("api.onedrive.com", api)
    for name, data in files.items():
        static(fakes, f"https://public.files.1drv.com/{name}", data)


# ------------------------------------------------------------------------------------------------------------ Figshare


def figshare(fakes: Fakes, article: str, files: Files, *, facts: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """The newest version has all files; version 1 the first alone."""

    def entry(number: int, name: str) -> dict[str, Any]:
        data = files[name]
        told = {"size": len(data), "computed_md5": md5(data), **((facts or {}).get(name) or {})}
        url = f"https://ndownloader.figshare.com/files/{number}"
        return {"id": number, "name": name, "is_link_only": False, "download_url": url, "supplied_md5": "", **told}

    entries = [entry(number, name) for number, name in enumerate(files, start=100)]

    def api(asked: Asked) -> Answer | None:
        if asked.path == f"v2/articles/{article}/files":
            size, at = int(asked.query.get("page_size", "10")), int(asked.query.get("page", "1")) - 1
            return as_json(entries[at * size : (at + 1) * size])
        if found := re.fullmatch(rf"v2/articles/{article}/versions/(\d+)", asked.path):
            return as_json({"id": int(article), "files": entries[:1] if found[1] == "1" else entries})
        return as_json({"message": "Entity not found", "code": "EntityNotFound"}, 404)

    def downloader(asked: Asked) -> Answer | None:
        name = {f"files/{entry['id']}": entry["name"] for entry in entries}.get(asked.path)
        return redirect(f"https://s3-eu-west-1.amazonaws.com/pfigshare/{name}") if name else None

    fakes.at("api.figshare.com", api)
    fakes.at("ndownloader.figshare.com", downloader)
    fakes.at("s3-eu-west-1.amazonaws.com", lambda asked: attachment(files[asked.path.removeprefix("pfigshare/")], "x"))


# -------------------------------------------------------------------------------------------------------------- Girder


def girder(fakes: Fakes, host: str, prefix: str, top: str, files: Files) -> None:
    """A collection or folder: each item of a folder holds one file. The ids are 24 hexadecimal digits."""

    def id_of(name: str) -> str:
        return md5(name.encode())[:24]

    folders = {"": top}
    for name in files:
        for depth in range(1, name.count("/") + 1):
            folder = "/".join(name.split("/")[:depth])
            folders[folder] = id_of(folder)

    def cut(found: list[dict[str, Any]], asked: Asked) -> Answer:
        limit, offset = int(asked.query.get("limit", "50")), int(asked.query.get("offset", "0"))
        return as_json(found[offset : offset + limit])

    def serve(asked: Asked) -> Answer | None:
        path = asked.path.removeprefix(f"{prefix}api/v1/".lstrip("/"))
        if path == "folder":
            above = next((name for name, key in folders.items() if key == asked.query["parentId"]), None)
            inside = [n for n in folders if n and n.rpartition("/")[0] == above]
            return cut([{"_id": folders[n], "name": n.rsplit("/", 1)[-1]} for n in inside], asked)
        if path == "item":
            above = next((name for name, key in folders.items() if key == asked.query["folderId"]), None)
            return cut([{"_id": id_of(n), "name": n} for n in files if n.rpartition("/")[0] == above], asked)
        for name, data in files.items():
            described = {"_id": id_of(name), "name": name.rsplit("/", 1)[-1], "size": len(data)}
            if path == f"item/{id_of(name)}/files":
                return cut([described], asked)
            if path == f"file/{id_of(name)}":
                return as_json(described)
            if path == f"file/{id_of(name)}/download":
                return attachment(data, name)
        if path.endswith("/download"):
            return attachment(b"PK-on-the-fly", "all.zip")
        return as_json({"message": "Invalid ObjectId", "type": "validation"}, 400)

    fakes.at(host, serve)


# ----------------------------------------------------------------------------------------------------------- Dataverse


def dataverse(fakes: Fakes, host: str, doi: str, files: Files, *, restricted: tuple[str, ...] = ()) -> None:
    """Files in folders; a .csv was converted to a table of the server's own, and is kept as uploaded beside it."""

    def entry(number: int, name: str) -> dict[str, Any]:
        folder, _, short = name.rpartition("/")
        data: dict[str, Any] = {"id": number, "filename": short, "filesize": len(files[name]), "md5": md5(files[name])}
        if short.endswith(".csv"):
            data |= {"filename": short[:-4] + ".tab", "filesize": 1, "md5": "0" * 32, "originalFileFormat": "text/csv",
                     "originalFileName": short, "originalFileSize": len(files[name])}  # fmt: skip
        if short.endswith(".npz"):
            data["checksum"] = {"type": "SHA-256", "value": sha256(files[name])}
            del data["md5"]
        return {"label": short, "restricted": name in restricted, "directoryLabel": folder, "dataFile": data}

    def serve(asked: Asked) -> Answer | None:
        if asked.path == "api/datasets/:persistentId/" and asked.query.get("persistentId") == f"doi:{doi}":
            entries = [entry(number, name) for number, name in enumerate(files, start=7)]
            return as_json({"status": "OK", "data": {"latestVersion": {"files": entries}}})
        for number, name in enumerate(files, start=7):
            if asked.path == f"api/access/datafile/{number}":
                whole = not name.endswith(".csv") or asked.query.get("format") == "original"
                return attachment(files[name] if whole else b"\t", name)
        return as_json({"status": "ERROR", "message": "Not found"}, 404)

    fakes.at(host, serve)


# ----------------------------------------------------------------------------------------------------------------- OSF


def osf(
    fakes: Fakes, project: str, files: Files, *, private: bool = False, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Folders listed one by one, ten entries a page. Returns folder → its id, of which some may be known."""
    folders = {"", *("/".join(name.split("/")[:n]) for name in files for n in range(1, name.count("/") + 1))}
    ids = {folder: sha256(folder.encode())[:24] for folder in folders} | dict(known or {})
    api = f"https://api.osf.io/v2/nodes/{project}/files/osfstorage/"

    def entry(name: str) -> dict[str, Any]:
        short, folder = name.rpartition("/")[2], name in ids
        key = ids[name] if folder else sha256(name.encode())[24:48]
        extra = {"sha256": None, "md5": None} if folder else {"sha256": sha256(files[name]), "md5": md5(files[name])}
        told = {
            "kind": "folder" if folder else "file", "name": short, "materialized_path": f"/{name}", "path": f"/{key}",
            "size": None if folder else len(files[name]), "provider": "osfstorage", "extra": {"hashes": extra},
        }  # fmt: skip
        related = {"files": {"links": {"related": {"href": f"{api}{key}/", "meta": {}}}}} if folder else {}
        links = {} if folder else {"download": f"{fakes.base}/osf.io/download/{key}/"}
        return {"id": key, "type": "files", "attributes": told, "relationships": related, "links": links}

    def serve(asked: Asked) -> Answer | None:
        if private:
            return as_json({"errors": [{"detail": "Authentication credentials were not provided."}]}, 401)
        for folder, key in ids.items():
            if asked.path == f"v2/nodes/{project}/files/osfstorage/" + (f"{key}/" if folder else ""):
                inside = [name for name in sorted({*files, *folders - {""}}) if name.rpartition("/")[0] == folder]
                number = int(asked.query.get("page", 1))
                more = f"{api}?page={number + 1}" if len(inside) > 10 * number else None
                data = [entry(name) for name in inside[10 * number - 10 : 10 * number]]
                meta = {"total": len(inside), "per_page": 10}
                return as_json({"data": data, "links": {"first": None, "prev": None, "next": more, "meta": meta}})
        return as_json({"errors": [{"detail": "Not found."}]}, 404)

    def download(asked: Asked) -> Answer | None:
        for name, data in files.items():
            if asked.path == f"download/{sha256(name.encode())[24:48]}/":
                return attachment(data, name)
        return None

    fakes.at("api.osf.io", serve)
    fakes.at("osf.io", download)
    return ids
