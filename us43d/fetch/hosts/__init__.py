"""Where the files of a route are to be had: one small module a host, each asking that host's API.

    resolve(route, web) -> [Remote, …]      every file, with the size and digest its host publishes

What cannot be scripted raises ManualFileError with numbered steps.
"""

from collections.abc import Callable, Mapping

from us43d.contract import Route, RouteKind
from us43d.errors import FetchError
from us43d.fetch.hosts import (
    by_hand,
    dataverse,
    figshare,
    gdrive,
    girder,
    github,
    kaggle,
    mendeley,
    onedrive,
    osf,
    plain,
    zenodo,
)
from us43d.fetch.http import Remote, Web

__all__ = ["resolve"]

_HOSTS: Mapping[RouteKind, Callable[[Route, Web], list[Remote]]] = {
    "http": plain.resolve,
    "tcia": plain.resolve,
    "zenodo": zenodo.resolve,
    "mendeley": mendeley.resolve,
    "kaggle": kaggle.dataset,
    "kaggle_competition": kaggle.competition,
    "github": github.resolve,
    "gdrive": gdrive.resolve,
    "onedrive": onedrive.resolve,
    "figshare": figshare.resolve,
    "girder": girder.resolve,
    "dataverse": dataverse.resolve,
    "osf": osf.resolve,
    **dict.fromkeys(by_hand.KINDS, by_hand.resolve),
}


def resolve(route: Route, web: Web) -> list[Remote]:
    """Return the files of a route. Raises FetchError, ManualFileError and LoginError."""
    try:
        return _HOSTS[route.kind](route, web)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        where = route.record or route.url
        raise FetchError(
            f"The host of {where} answers in a form that us43d does not know ({type(error).__name__}: {error}).",
            next=f"open {route.url or where} in a browser",
        ) from error
