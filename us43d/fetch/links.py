"""Whether the addresses in the recipes still lead somewhere: HEAD, then a small range, one host at a time and slowly.

Nothing is downloaded beyond the first kilobyte of a file; what the hosts' APIs list is compared with the facts.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from us43d import atomic
from us43d.contract import Recipe, Route
from us43d.errors import FetchError, LoginError, ManualFileError, RecipeError, VerifyError
from us43d.fetch.hosts import resolve
from us43d.fetch.http import HttpError, Web, page_title

__all__ = ["Link", "check", "links_of", "passed", "report", "stamp"]

#: Seconds between two requests to one host.
DELAY = 1.0
#: Kinds whose host is asked what it lists.
_LISTED = {"zenodo", "mendeley", "figshare", "girder", "dataverse", "osf", "github", "gdrive", "onedrive", "kaggle"}


@dataclass(frozen=True, slots=True)
class Link:
    """One address of one source, and what became of it.

    what: "homepage", "doi", "licence", "route", "file" or "listing". route: number of the route, from 0.
    state: "ok" · "refuses" (it is there, but gives nothing to a script) · "login" · "by hand" · "changed" (another size
    or digest, or a page where a file was) · "gone" · "failed" (no answer that says anything); "" before it was asked.
    sizes: (file name, bytes) of a listing.
    """

    source: str
    what: str
    url: str
    route: int | None = None
    state: str = ""
    status: int | None = None
    bytes: int | None = None
    said: str = ""
    sizes: tuple[tuple[str, int], ...] = ()


def links_of(recipe: Recipe) -> Iterator[Link]:
    """Yield every address the recipe names, once, and the listings of its hosts."""
    seen: set[str] = set()

    def new(what: str, url: str | None, route: int | None = None) -> Iterator[Link]:
        if url and url not in seen:
            seen.add(url)
            yield Link(recipe.name, what, url, route)

    if recipe.homepage:
        yield from new("homepage", recipe.homepage)
    for doi in (recipe.doi, *(citation.doi for citation in recipe.citations)):
        yield from new("doi", f"https://doi.org/{quote(doi, safe='/')}" if doi else None)
    yield from new("licence", recipe.licence.url)
    for number, route in enumerate(recipe.routes):
        yield from new("route", route.url, number)
        if route.kind in _LISTED:
            yield Link(recipe.name, "listing", f"{route.kind}:{route.record or route.url}", number)
        for file in route.files:
            yield from new("file", file.url, number)


def check(
    recipes: Sequence[Recipe],
    web: Web,
    *,
    delay: float = DELAY,
    jobs: int = 8,
    moved: Callable[[int, int | None], None] = lambda done, total: None,
) -> list[Link]:
    """Request every address, in the order of `links_of`; hosts in parallel, the addresses of one host in turn.

    Args:
        recipes: Recipes whose addresses are checked.
        web: Session for all requests.
        delay: Seconds between two requests to a host.
        jobs: Number of hosts at once.
        moved: Called with (links done, links in all).

    Returns:
        One result per address.
    """
    links = [(recipe, link) for recipe in recipes for link in links_of(recipe)]
    hosts: dict[str, list[int]] = {}
    for number, (_, link) in enumerate(links):
        hosts.setdefault(urlsplit(link.url).hostname or link.url.split(":")[0], []).append(number)
    by_number: dict[int, Link] = {}

    def one_host(numbers: list[int]) -> None:
        for n, number in enumerate(numbers):
            if n:
                web.wait(delay)
            recipe, link = links[number]
            by_number[number] = _asked(None if link.route is None else recipe.routes[link.route], link, web)
            moved(len(by_number), len(links))

    with ThreadPoolExecutor(jobs, thread_name_prefix="links") as pool:
        try:
            for future in [pool.submit(one_host, numbers) for numbers in hosts.values()]:
                future.result()
        except BaseException:
            web.stop()
            raise
    return [by_number[number] for number in range(len(links))]


def _asked(route: Route | None, link: Link, web: Web) -> Link:
    files = route.files if route else ()
    if route is None or link.what != "listing":
        size = next((file.size for file in files if file.url == link.url and not file.generated), None)
        return _address(link, web, size)
    try:
        remotes = resolve(route, web)
    except LoginError as error:
        return replace(link, state="login", said=error.what)
    except ManualFileError as error:
        return replace(link, state="by hand", said=error.what)
    except VerifyError as error:
        return replace(link, state="changed", said=error.what)
    except FetchError as error:
        return replace(link, **_failure(error))
    sizes = tuple((remote.name, remote.size) for remote in remotes if remote.size)
    total = sum(size for _, size in sizes) if sizes and len(sizes) == len(remotes) else None
    return replace(link, state="ok", bytes=total, said=f"{len(remotes)} files", sizes=sizes)


def _address(link: Link, web: Web, size: int | None) -> Link:
    """Request HEAD; if the host refuses it or does not tell the size, the first kilobyte."""
    try:
        with web.head(link.url) as answer:
            status, length, kind = answer.status_code, _length(answer.headers), answer.headers.get("Content-Type", "")
        if link.what != "file" or (length is not None and "html" not in kind):
            return _judged(link, status, length, kind, size, "")
    except HttpError as error:
        if error.status not in (400, 401, 403, 404, 405, 406, 410, 429, 500, 501, 503):
            return replace(link, **_failure(error))
    except FetchError as error:
        return replace(link, **_failure(error))
    try:
        with web.open(link.url, headers={"Range": "bytes=0-1023"}) as answer:
            title = page_title(next(answer.iter_content(1024), b"").decode("utf-8", "replace"))
            kind = answer.headers.get("Content-Type", "")
            return _judged(link, answer.status_code, _length(answer.headers), kind, size, title)
    except FetchError as error:
        return replace(link, **_failure(error))


def _length(headers: Any) -> int | None:
    """Return bytes of the whole file."""
    whole = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("Content-Range", ""))
    if whole:
        return int(whole[1])
    told = headers.get("Content-Length", "")
    return int(told) if told.isdigit() and "Content-Encoding" not in headers else None


def _judged(link: Link, status: int, length: int | None, kind: str, size: int | None, title: str) -> Link:
    state, remark = "ok", ""
    if link.what == "file" and "html" in kind:
        state, remark = "changed", f"a page{f' titled {title!r}' if title else ''} where a file was"
    elif None not in (size, length) and size != length:
        state, remark = "changed", f"{length:,} bytes, where {size:,} are known"
    return replace(link, state=state, status=status, bytes=length if link.what == "file" else None, said=remark)


def _failure(error: FetchError) -> dict[str, Any]:
    status = error.status if isinstance(error, HttpError) else 0
    state = "gone" if status in (404, 410) else "refuses" if status in (401, 403, 429, 451) else "failed"
    return {"state": state, "status": status or None, "said": error.what}


def passed(recipe: Recipe, links: Iterable[Link]) -> bool:
    """Return whether a person could still get the source the first way: every address of an origin's route answers.

    A host that refuses scripts or wants a login is there; a mirror or a dead DOI does not matter.
    """
    for number, route in enumerate(recipe.routes):
        mine = [link for link in links if link.source == recipe.name and link.route == number]
        if not route.mirror and mine and all(link.state in {"ok", "refuses", "login", "by hand"} for link in mine):
            return True
    return False


def report(recipes: Sequence[Recipe], links: Sequence[Link], date: datetime.date) -> dict[str, Any]:
    """Return the results as JSON."""
    states = sorted({link.state for link in links})
    return {
        "date": date.isoformat(),
        "links": len(links),
        "states": {state: sum(link.state == state for link in links) for state in states},
        "sources": [
            {
                "name": recipe.name,
                "access": recipe.access,
                "access_checked": recipe.access_checked.isoformat(),
                "passed": passed(recipe, links),
                "links": [asdict(link) for link in links if link.source == recipe.name],
            }
            for recipe in recipes
        ],
    }


def stamp(recipes: Iterable[Recipe], links: Iterable[Link], folder: Path, date: datetime.date) -> list[Path]:
    """Write the result of a check into the facts files, keeping their layout and comments.

    The date becomes the day the access was checked. Sizes that were unknown are added to their files; the size of a
    whole listing is added to `published` where the route names no files. A source that is the same as another takes
    these facts from there and is passed over.

    Args:
        recipes: Sources that passed.
        links: Results of `check`.
        folder: The folder of the facts files.
        date: The day of the check.

    Returns:
        The files that changed.

    Raises:
        RecipeError: A file is not valid TOML; nothing was written.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    answers = [link for link in links if link.state == "ok"]
    texts: dict[Path, str] = {}
    for recipe in recipes:
        if recipe.same_as:
            continue
        path = folder / f"{recipe.slug}.toml"
        old = path.read_text(encoding="utf-8")
        try:
            content = tomlkit.parse(old)
        except TOMLKitError as error:
            raise RecipeError(f"{path} is not valid TOML: {error}.") from error
        content["access_checked"] = date
        _add_sizes(content, [link for link in answers if link.source == recipe.name], date)
        if (new := tomlkit.dumps(content)) != old:
            texts[path] = new
    for path, text in texts.items():
        atomic.write_bytes(path, text.encode())
    return list(texts)


def _add_sizes(content: Any, links: Sequence[Link], date: datetime.date) -> None:
    """Add the sizes that were unknown to the parsed facts file of one source."""
    for number, route in enumerate(content.get("routes", ())):
        own = [link for link in links if link.route == number]
        by_url = {link.url: link.bytes for link in own if link.what == "file" and link.bytes}
        by_name = {name: size for link in own for name, size in link.sizes}
        for file in route.get("files", ()):
            size = by_url.get(file.get("url", "")) or by_name.get(file["name"])
            if size and "size" not in file and not file.get("generated"):
                file["size"] = size
        whole = next((link for link in own if link.what == "listing" and link.bytes), None)
        known = "published" in content and "bytes" in content["published"]
        if whole and not route.get("files") and not route.get("mirror") and not known:
            content.setdefault("published", {})["bytes"] = {
                "value": whole.bytes,
                "source": f"listing of {whole.url}, {date.isoformat()}",
            }
