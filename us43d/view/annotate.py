"""The site of `us43d label`: one image after another, the model's answer to clicks, masks carried through frames."""

import threading
from typing import Any, NamedTuple

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from us43d.coco.segmentation import encode
from us43d.errors import Us43dError, UsageError
from us43d.masks import rle
from us43d.view import thumbs
from us43d.view.assistant import Answer, Assistant, Mask, Prompt
from us43d.view.between import Gap, pairs
from us43d.view.inputs import Window
from us43d.view.labels import Changed, Labels
from us43d.view.pages import render
from us43d.view.server import body, window

__all__ = ["Annotate"]

#: Images encoded ahead of the one that is shown.
_AHEAD = 6
_MOST_POINTS = 200


class _Gap(NamedTuple):
    """Images between two labelled ones. skipped: objects of these without a counterpart."""

    structures: list[str]
    gap: Gap
    skipped: int


class Annotate:
    """Answers about one labelling session.

    assistant: None where no model is at hand. base: path below which a larger site has the routes.
    """

    def __init__(self, labels: Labels, title: str, assistant: Assistant | None, command: str, base: str = "") -> None:
        self.labels, self.title, self.assistant, self.command, self.base = labels, title, assistant, command, base
        self._filling = threading.Lock()
        self._filled: tuple[tuple[int, ...], _Gap] | None = None  # which, and the gap

    def routes(self) -> list[Route]:
        return [
            Route("/label", self.page),
            Route("/", self.page),
            Route("/api/label", self.overview),
            Route("/api/label/image/{number:int}", self.image, methods=["GET"]),
            Route("/api/label/image/{number:int}", self.save, methods=["PUT"]),
            Route("/api/label/pixels/{number:int}", self.pixels),
            Route("/api/label/prompt/{number:int}", self.prompt, methods=["POST"]),
            Route("/api/label/carry/{number:int}", self.carry, methods=["POST"]),
            Route("/api/label/back/{number:int}", self.back, methods=["POST"]),
            Route("/api/label/fill/{number:int}", self.fill, methods=["POST"]),
            Route("/api/label/certainty/{number:int}", self.certainty),
        ]

    def page(self, request: Request) -> Response:
        has_model, open_names = self.assistant is not None, self.labels.fixes is None
        return HTMLResponse(render("label.html", title=self.title, model=has_model, base=self.base, open=open_names))

    def overview(self, request: Request) -> Response:
        return JSONResponse(
            {"items": self.labels.summary(), "structures": self.labels.structures(), "folder": str(self.labels.out),
             "command": self.command, "model": self.assistant is not None, "open": self.labels.fixes is None}
        )  # fmt: skip

    def _number(self, request: Request) -> int:
        number = int(request.path_params["number"])
        if number >= len(self.labels.inputs.items):
            raise HTTPException(404, "Unknown image.")
        return number

    def image(self, request: Request) -> Response:
        """Return the labels of an image, and start to encode it and the next ones."""
        number = self._number(request)
        if self.assistant:
            count = len(self.labels.inputs.items)
            self.assistant.ahead(n for n in range(number, min(number + _AHEAD, count)))
        return JSONResponse(self.labels.state(number) | {"range": self._range(number)})

    def _range(self, number: int) -> Window | None:
        try:
            return self.labels.inputs.range(number)
        except Us43dError:  # the pixels answer with it
            return None

    def pixels(self, request: Request) -> Response:
        """Return an image in 8 bits. low, high: window of a deeper image; the model sees all its values."""
        shown = self.labels.inputs.read(self._number(request), window(request))
        return Response(thumbs.png(shown), media_type="image/png")

    async def save(self, request: Request) -> Response:
        number, content = self._number(request), body(await request.body())
        try:
            revision, objects = int(content["revision"]), list(content["objects"])
            patient, reviewed = str(content.get("patient", "")), bool(content.get("reviewed"))
        except (KeyError, TypeError, ValueError) as error:
            raise HTTPException(400, "A revision and a list of objects are needed.") from error
        try:
            saved = await run_in_threadpool(
                self.labels.save, number, revision, objects, patient=patient, reviewed=reviewed
            )
        except Changed as error:
            return JSONResponse({"error": error.what, "state": self.labels.state(number)}, 409)
        return JSONResponse({"revision": saved})

    # -------------------------------------------------------------------------------------------------------- the model

    def _model(self) -> Assistant:
        if self.assistant is None:
            raise UsageError("No model is loaded.", next="us43d label … --weights RUN|FILE|NAME")
        return self.assistant

    async def prompt(self, request: Request) -> Response:
        number, content = self._number(request), body(await request.body())
        answer = await run_in_threadpool(self._model().predict, number, _prompt(content))
        return JSONResponse(_told(answer))

    async def carry(self, request: Request) -> Response:
        """Return the objects of image `from`, laid on this one; saves nothing."""
        number, content = self._number(request), body(await request.body())
        items = self.labels.inputs.items
        origin = content.get("from")
        if not isinstance(origin, int) or not 0 <= origin < len(items) or items[origin].group != items[number].group:
            raise HTTPException(400, "Masks are carried between frames of one file.")
        objects, skipped = await run_in_threadpool(self._carried, number, origin)
        return JSONResponse({"objects": objects, "skipped": skipped})

    def _carried(self, number: int, origin: int) -> tuple[list[dict[str, Any]], int]:
        """Return the objects of another image for this one, and the number of those that do not fit its size."""
        masks, skipped = self._masks(origin, self.labels.inputs.read(number).shape[:2])
        return [_propagated(name, self._followed(origin, number, mask)) for name, mask in masks], skipped

    def _followed(self, origin: int, number: int, mask: Mask) -> Answer:
        """Return a mask of one frame on another; the mask as it is without a model."""
        if self.assistant is None:
            return Answer(mask, 0.0)
        (now,) = self.assistant.follow([self.assistant.tracker(origin, mask)], number)
        return Answer(now.mask, now.memory if now.lost else now.score)

    def _masks(self, number: int, shape: tuple[int, ...]) -> tuple[list[tuple[str, Mask]], int]:
        """Return (structure, mask) of the labels of an image, and the number of those of another size than `shape`."""
        masks, skipped = [], 0
        for entry in self.labels.state(number)["objects"]:
            try:
                mask = rle.decode(entry["rle"].encode("ascii"), shape[0], shape[1])
            except ValueError:  # another size: a group of stills
                skipped += 1
            else:
                masks.append((str(entry["structure"]), np.ascontiguousarray(mask)))
        return masks, skipped

    async def back(self, request: Request) -> Response:
        """Follow the objects of image `last` back to this one, so that `fill` finds them; saves nothing."""
        number, first, last = self._place(request, body(await request.body()))

        def work() -> None:
            with self._filling:
                self._gap(number, first, last).gap.back(number)

        await run_in_threadpool(work)
        return JSONResponse({})

    async def fill(self, request: Request) -> Response:
        """Save masks for an image without labels, from those of two labelled images around it."""
        place = self._place(request, body(await request.body()))
        filled, skipped, agreement = await run_in_threadpool(self._fill, *place)
        return JSONResponse({"filled": filled, "skipped": skipped, "agreement": round(agreement, 4)})

    def _place(self, request: Request, content: dict[str, Any]) -> tuple[int, int, int]:
        """Return the numbers of an image and of the labelled ones before and after it. Raises HTTPException."""
        number, items = self._number(request), self.labels.inputs.items
        first, last = content.get("first"), content.get("last")
        if (
            not isinstance(first, int) or not isinstance(last, int) or not 0 <= first < number < last < len(items)
            or not items[first].group == items[number].group == items[last].group
        ):  # fmt: skip
            raise HTTPException(400, "An image is filled from two labelled ones of its file, before and after it.")
        return number, first, last

    def _fill(self, number: int, first: int, last: int) -> tuple[bool, int, float]:
        """Return whether the image was filled, how many objects around it have no counterpart, and the lowest score."""
        state = self.labels.state(number)
        if state["saved"] and not all(entry["origin"] == "propagated" for entry in state["objects"]):
            return False, 0, 1.0  # a person's work stays
        with self._filling:
            structures, gap, skipped = self._gap(number, first, last)
            answers = gap.at(number)
        named = zip(structures, answers, strict=True)
        objects = [_propagated(name, answer) for name, answer in named if answer.mask.any()]
        if objects:
            self.labels.save(number, state["revision"], objects, patient=state["patient"])
        return bool(objects), skipped, min((answer.score for answer in answers), default=1.0)

    def _gap(self, number: int, first: int, last: int) -> _Gap:
        """Return what is between two labelled images. The last one is kept: a page asks for one image after another."""
        ends = [self.labels.state(end) for end in (first, last)]
        key = first, last, *(state["revision"] for state in ends)
        if self._filled is None or self._filled[0] != key:
            shape = self.labels.inputs.read(number).shape[:2]
            (before, misfits), (after, others) = self._masks(first, shape), self._masks(last, shape)
            matched = pairs(before, after)
            clip = self.labels.inputs.items[number].frame is not None
            gap = Gap(self.assistant if clip else None, first, last, [(one, other) for _, one, other in matched])
            skipped = misfits + others + len(before) + len(after) - 2 * len(matched)
            self._filled = key, _Gap([structure for structure, _, _ in matched], gap, skipped)
        return self._filled[1]

    def certainty(self, request: Request) -> Response:
        return JSONResponse({"certainty": round(self._model().certainty(self._number(request)), 4)})


def _propagated(structure: str, answer: Answer) -> dict[str, Any]:
    return {"structure": structure, **_told(answer), "origin": "propagated"}


def _told(answer: Answer) -> dict[str, Any]:
    return {"rle": encode(answer.mask).decode("ascii"), "score": round(answer.score, 4)}


def _prompt(content: dict[str, Any]) -> Prompt:
    """Return the prompt that a page sent; the predictor refuses coordinates outside the image.

    Raises:
        HTTPException: If the prompt is invalid.
    """
    try:
        box = content.get("box")
        corners = [float(value) for value in box] if box is not None else None
        if corners is not None and len(corners) != 4:
            raise ValueError("a box has four numbers")
        points = tuple((float(x), float(y)) for x, y in content.get("points", ()))
        labels = tuple(int(value) for value in content.get("labels", ()))
        numbers = [*(corners or ()), *(value for point in points for value in point)]
        if len(points) > _MOST_POINTS or len(points) != len(labels) or not all(abs(value) < 1e6 for value in numbers):
            raise ValueError("points and labels do not match")
    except (TypeError, ValueError) as error:
        raise HTTPException(400, f"Invalid prompt: {error}.") from error
    shape = (corners[0], corners[1], corners[2], corners[3]) if corners else None
    return Prompt(shape, points, labels)
