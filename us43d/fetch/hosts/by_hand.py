"""Hosts that no script may use: challenges with a sign-up, portals with an agreement, forms, e-mail."""

from us43d.contract import Route, RouteKind
from us43d.errors import FetchError
from us43d.fetch.hosts.common import refused
from us43d.fetch.http import Remote, Web

__all__ = ["KINDS", "resolve"]

#: Kinds of routes whose files a person gets.
KINDS: frozenset[RouteKind] = frozenset({"grand_challenge", "stanford_aimi", "synapse", "torrent", "manual"})


def resolve(route: Route, web: Web) -> list[Remote]:
    """Raise ManualFileError with the steps for a person."""
    if not (route.url or route.record):
        raise FetchError("The manual download source names no page.")
    if route.kind == "grand_challenge":
        raise refused(
            route,
            f"The challenge {route.record or route.url} gives its data to participants only.",
            "Log in with a free Grand Challenge account, or make one.",
            "Join the challenge and accept its terms; organisers may take days to answer.",
            "Follow its link to the data and download them.",
        )
    if route.kind == "stanford_aimi":
        raise refused(
            route,
            "Stanford AIMI gives these data to people who agree to its research use agreement.",
            "Log in (an e-mail address is enough), or make an account.",
            "Read and accept the agreement shown there.",
            "Download the data set in the browser; large ones come with an AzCopy command that the page shows.",
        )
    if route.kind == "synapse":
        raise refused(
            route,
            f"Synapse gives {route.record or 'these data'} to people who are logged in and accept its conditions.",
            "Log in with a free Synapse account, or make one.",
            "Accept the conditions for use that the page shows under Access Requirements.",
            f"Download the files, or run: synapse get -r {route.record}" if route.record else "Download the files.",
        )
    if route.kind == "torrent":
        raise refused(
            route,
            f"The data are shared as the torrent {route.record or route.url}; us43d has no torrent client.",
            "Download its .torrent file, or copy its magnet link, into a torrent client.",
            "Wait until the client reports all files as complete.",
        )
    acts = () if route.note else ("Do what the page asks for.",)
    raise refused(route, f"A person must get these files from {route.url or route.record}.", *acts)
