"""Correcting masks from the view: the label tools over the images of a source, or over those of a query."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import Receive, Scope, Send

from us43d.harmonize.corpus import OWN
from us43d.view import fixes
from us43d.view.annotate import Annotate
from us43d.view.assistant import Assistant
from us43d.view.browse import query
from us43d.view.catalogue import Catalogue
from us43d.view.labels import Inputs

__all__ = ["Correct"]


class Correct:
    """Sources are opened when the first of their images is corrected.

    assistant: makes the model that answers clicks on some images; None where no model is at hand.
    """

    def __init__(
        self, catalogue: Catalogue, home: Path, title: str, assistant: Callable[[Inputs], Assistant] | None
    ) -> None:
        self.catalogue, self.home, self.title, self._assistant = catalogue, home, title, assistant
        self._lock = threading.Lock()
        self._opened: dict[int, tuple[Annotate, Router]] = {}

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/correct", self.begin),
            Route("/correct/{id:int}", self.page),
            Route("/api/correct/order/{number:int}", self.order),
            Mount("/correct/source/{number:int}", self.source),
        ]

    def close(self) -> None:
        for annotate, _ in self._opened.values():
            if annotate.assistant:
                annotate.assistant.close()
            annotate.labels.close()

    def page(self, request: Request) -> Response:
        """To the label tools, at this image; they go through the images of a query if the address has `through`."""
        row = self.catalogue.row(request.path_params["id"])
        if row is None or self.catalogue.images[row] < 0:
            raise HTTPException(404, f"No image with the id {request.path_params['id']} is in {self.title}.")
        source = int(self.catalogue.sources[row])
        annotate, _ = self._of(source)
        number = next(n for n, item in enumerate(annotate.labels.inputs.items) if item.id == self.catalogue.ids[row])
        query = f"&{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/correct/source/{source}/label?n={number + 1}{query}", 303)

    def begin(self, request: Request) -> Response:
        """To the label tools, at the first image of a query, to go through all of them."""
        rows = self._correctable(request)
        if not len(rows):
            raise HTTPException(404, "None of these images can be labelled: they were dropped, or are not of a source.")
        query = f"{request.url.query}&" if request.url.query else ""
        return RedirectResponse(f"/correct/{self.catalogue.ids[rows[0]]}?{query}through=1", 303)

    def order(self, request: Request) -> Response:
        """Return the images of a query that are of one source, and the first one of the source that comes next."""
        rows, number = self._correctable(request), request.path_params["number"]
        sources = self.catalogue.sources[rows]
        turns = list(dict.fromkeys(sources.tolist()))
        later = turns[turns.index(number) + 1 :] if number in turns else []
        following = int(self.catalogue.ids[rows[sources == later[0]][0]]) if later else None
        return JSONResponse({"ids": self.catalogue.ids[rows[sources == number]].tolist(), "next": following})

    def _correctable(self, request: Request) -> NDArray[np.int32]:
        """Return the rows of a query that have pixels and are of a build."""
        rows = self.catalogue.rows(query(self.catalogue, request.query_params))
        own = [n for n, source in enumerate(self.catalogue.corpus.sources) if source["slug"] == OWN]
        return rows[(self.catalogue.images[rows] >= 0) & ~np.isin(self.catalogue.sources[rows], own)]

    async def source(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, router = await run_in_threadpool(self._of, scope["path_params"]["number"])
        await router(scope, receive, send)

    def _of(self, source: int) -> tuple[Annotate, Router]:
        corpus = self.catalogue.corpus
        if not 0 <= source < len(corpus.sources) or corpus.sources[source]["slug"] == OWN:
            raise HTTPException(404, "Masks of a built source can be corrected here.")
        with self._lock:
            if source not in self._opened:
                labels = fixes.opened(self.home, corpus, source)
                name = corpus.sources[source]["name"]
                annotate = Annotate(
                    labels, name, self._assistant(labels.inputs) if self._assistant else None,
                    self.catalogue.rebuild([name]), f"/correct/source/{source}",
                )  # fmt: skip
                self._opened[source] = annotate, Router(annotate.routes())
            return self._opened[source]
