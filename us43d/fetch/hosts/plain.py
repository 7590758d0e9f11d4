"""Files with addresses of their own: plain HTTP, and TCIA's wiki uploads."""

from us43d.contract import Route
from us43d.errors import FetchError
from us43d.fetch.hosts.common import from_facts
from us43d.fetch.http import Remote, Web

__all__ = ["resolve"]


def resolve(route: Route, web: Web) -> list[Remote]:
    if not route.files:
        raise FetchError(f"No file is known at {route.url or route.record}.", next=f"open {route.url} in a browser")
    return [from_facts(file) for file in route.files]
