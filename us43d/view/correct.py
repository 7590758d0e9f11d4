"""Correcting masks from the view of one image: the label tools over the images of its source."""

import threading
from collections.abc import Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import Receive, Scope, Send

from us43d.harmonize.corpus import OWN
from us43d.view import fixes
from us43d.view.annotate import Annotate
from us43d.view.assistant import Assistant
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
        return [Route("/correct/{id:int}", self.page), Mount("/correct/source/{number:int}", self.source)]

    def close(self) -> None:
        for annotate, _ in self._opened.values():
            if annotate.assistant:
                annotate.assistant.close()
            annotate.labels.close()

    def page(self, request: Request) -> Response:
        """To the label tools, at this image."""
        row = self.catalogue.row(request.path_params["id"])
        if row is None or self.catalogue.images[row] < 0:
            raise HTTPException(404, f"No image with the id {request.path_params['id']} is in {self.title}.")
        source = int(self.catalogue.sources[row])
        annotate, _ = self._of(source)
        number = next(n for n, item in enumerate(annotate.labels.inputs.items) if item.id == self.catalogue.ids[row])
        return RedirectResponse(f"/correct/source/{source}/label?n={number + 1}", 303)

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
