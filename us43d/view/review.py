"""The review pages: pairs that an audit reported, odd masks and bad predictions, each with a verdict by key."""

import threading
from collections.abc import Container
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from us43d.masks import read
from us43d.pictures.levels import eight_bits
from us43d.splits import review
from us43d.splits.review import Picture
from us43d.view import thumbs
from us43d.view.catalogue import Catalogue, Query
from us43d.view.pages import render
from us43d.view.server import body

__all__ = ["Review"]

_WINDOW = 500
#: Largest number of worst predictions to review.
_PREDICTIONS = 500
#: States of images that are in no split.
_UNUSED = {"excluded", "dropped", "not in the corpus"}
_MIRRORINGS = {"none": None, "left-right": 1, "top-bottom": 0, "both": -1}
#: A verdict on a pair → the same on the pair the other way round.
_SWAPPED = {"first is wrong": "second is wrong", "second is wrong": "first is wrong"}
_TITLES = {
    "near": "Near-duplicates", "conflict": "Contradicting labels", "mask": "Odd masks",
    "prediction": "Worst predictions",
}  # fmt: skip


class Review:
    """Things to decide, from the contents of audit.json and the predictions a catalogue knows."""

    def __init__(self, catalogue: Catalogue, findings: dict[str, Any] | None, home: Path, title: str) -> None:
        self.catalogue, self.home, self.title = catalogue, home, title
        self._lock = threading.Lock()
        self.things: dict[str, list[dict[str, Any]]] = {kind: [] for kind in review.KINDS}
        self._audited = findings is not None
        self._collect(findings or {})

    def routes(self) -> list[Route]:
        return [
            Route("/review", self.page),
            Route("/api/review", self.listing, methods=["GET"]),
            Route("/api/review", self.decide, methods=["POST"]),
            Route("/api/review/undo", self.undo, methods=["POST"]),
            Route("/api/review/{kind}/{number:int}", self.thing),
            Route("/api/review/{kind}/{number:int}/aligned", self.aligned),
        ]

    def _collect(self, findings: dict[str, Any]) -> None:
        find = self.catalogue.find
        for kind, name in (("near", "near"), ("conflict", "conflicts")):
            for pair in findings.get(name, ()):
                candidates = [find(end["source"], end["key"]) for end in (pair["a"], pair["b"])]
                rows = [row for row in candidates if row is not None]
                if len(rows) < 2:
                    continue
                detail = (
                    pair.get("detail") or pair.get("said") or f"{pair.get('equal_blocks', 0):.0%} of the blocks equal"
                )
                crosses = len({self.catalogue.state(row) for row in rows} - _UNUSED) > 1
                self.things[kind].append(
                    {"rows": rows, "detail": detail, "crosses": crosses, "mirrored": pair.get("mirrored", "none"),
                     "place": pair.get("place"), "order": (not crosses, pair.get("equal_blocks", 0))}
                )  # fmt: skip
        for fault in findings.get("masks", ()):
            row = find(fault["source"], fault["key"])
            if row is not None and fault["kind"] in ("outside", "whole"):
                detail = {"outside": "outside the field of view", "whole": "of the image"}[fault["kind"]]
                self.things["mask"].append(
                    {"rows": [row], "detail": f"{fault['label']}: {fault['value']:.0%} {detail}", "crosses": False,
                     "order": -float(fault["value"])}
                )  # fmt: skip
        if "dice" in self.catalogue.orders and "against" not in self.catalogue.facets:
            for row in self.catalogue.rows(Query(order="dice"))[:_PREDICTIONS]:
                dice = float(self.catalogue.worst[row])
                if dice <= 1:
                    self.things["prediction"].append(
                        {"rows": [int(row)], "detail": f"Dice {dice:.3f}", "crosses": False, "order": dice}
                    )
        for things in self.things.values():
            things.sort(key=lambda thing: thing["order"])

    # ------------------------------------------------------------------------------------------------------------ asked

    def page(self, request: Request) -> Response:
        kinds = [(kind, _TITLES[kind], list(review.KINDS[kind])) for kind in review.KINDS]
        return HTMLResponse(
            render("review.html", title=self.title, kinds=kinds, corpus=self.catalogue.corpus.digest[:12])
        )

    def _verdicts(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], review.Verdict]:
        """Return the current verdicts by kind and images (source and key)."""
        return {
            (v.kind, tuple(sorted(p[:2] for p in (v.a, v.b) if p is not None))): v for v in review.decided(self.home)
        }

    def _about(self, kind: str, thing: dict[str, Any]) -> tuple[str, tuple[tuple[str, str], ...]]:
        return kind, tuple(sorted(self._end(row) for row in thing["rows"]))

    def _end(self, row: int) -> tuple[str, str]:
        """Return slug and key of an image."""
        return str(self.catalogue.corpus.sources[self.catalogue.sources[row]]["slug"]), self.catalogue.key(row)

    def listing(self, request: Request) -> Response:
        """Return items of one kind, in order; `verdict` keeps those with this verdict, or without one ("open").

        Without `kind`: the first with undecided items, else the first with items.
        """
        verdicts = self._verdicts()
        kind = request.query_params.get("kind") or self._first(verdicts)
        if kind not in review.KINDS:
            raise HTTPException(404, f"Unknown kind {kind!r}.")
        things = self.things[kind]
        own = [verdicts.get(self._about(kind, thing)) for thing in things]
        words = [self._given(verdict, thing) for verdict, thing in zip(own, things, strict=True)]
        wanted = request.query_params.get("verdict", "")
        if wanted not in ("", "open", *review.KINDS[kind]):
            raise HTTPException(400, f"{wanted!r} is not a verdict on {kind!r}.")
        rows = [
            {"number": n, "verdict": verdict, "crosses": thing["crosses"], "detail": thing["detail"],
             "names": [self.catalogue.key(row) for row in thing["rows"]],
             "ids": [int(self.catalogue.ids[row]) for row in thing["rows"]]}
            for n, (thing, verdict) in enumerate(zip(things, words, strict=True))
            if not wanted or wanted == (verdict or "open")
        ]  # fmt: skip
        names = self._touched(kind)
        return JSONResponse(
            {"kind": kind, "rebuild": self.catalogue.rebuild(names) if names else "",
             "total": len(things), "audited": self._audited, "open": sum(verdict is None for verdict in own),
             "rows": rows[:_WINDOW], "counts": {name: len(entries) for name, entries in self.things.items()}}
        )  # fmt: skip

    def _given(self, verdict: review.Verdict | None, thing: dict[str, Any]) -> str | None:
        """Return a verdict as the page shows the images: another audit may have listed them the other way round."""
        if verdict is None:
            return None
        swapped = verdict.b is not None and verdict.a[:2] != self._end(thing["rows"][0])
        return _SWAPPED.get(verdict.verdict, verdict.verdict) if swapped else verdict.verdict

    def _touched(self, kind: str) -> set[str]:
        """Return the sources of this corpus with verdicts of a kind that builds apply, or that were taken back."""
        names = {str(source["slug"]): str(source["name"]) for source in self.catalogue.corpus.sources}
        lines = [line for line in review.log(self.home) if line.get("kind") == kind]
        ends = (line[end] for line in lines if (kind, line["verdict"]) in review.APPLIED for end in ("a", "b"))
        return {names[end["source"]] for end in ends if end and end["source"] in names}

    def _first(self, verdicts: Container[Any]) -> str:
        kinds = [kind for kind, things in self.things.items() if things]
        undecided = (kind for kind in kinds if any(self._about(kind, t) not in verdicts for t in self.things[kind]))
        return next(undecided, kinds[0] if kinds else next(iter(self.things)))

    def _thing(self, request: Request) -> tuple[str, dict[str, Any]]:
        return self._at(request.path_params["kind"], request.path_params["number"])

    def _at(self, kind: Any, number: Any) -> tuple[str, dict[str, Any]]:
        things = self.things.get(kind, []) if isinstance(kind, str) else []
        if not isinstance(number, int) or not 0 <= number < len(things):
            raise HTTPException(404, "Unknown number.")
        return kind, things[number]

    def thing(self, request: Request) -> Response:
        kind, thing = self._thing(request)
        verdict = self._verdicts().get(self._about(kind, thing))
        return JSONResponse(
            {"ids": [int(self.catalogue.ids[row]) for row in thing["rows"]], "detail": thing["detail"],
             "alignable": thing.get("place") is not None,
             "verdict": {"id": verdict.id, "verdict": self._given(verdict, thing)} if verdict else None}
        )  # fmt: skip

    def aligned(self, request: Request) -> Response:
        """Return the first image of a pair aligned to the second, at the second's size."""
        _, thing = self._thing(request)
        if thing.get("place") is None:
            raise HTTPException(404, "The audit did not record how this pair is aligned. Run us43d audit again.")
        corpus = self.catalogue.corpus
        with self._lock:
            first, second = (
                eight_bits(read.image(corpus.file(int(self.catalogue.images[row])))) for row in thing["rows"]
            )
            flip = _MIRRORINGS.get(thing["mirrored"])
            if flip is not None:
                first = np.asarray(cv2.flip(first, flip), np.uint8)
            place = np.asarray(thing["place"], np.float64)  # where the longer side of each image is 1
            one, other = max(first.shape[:2]), max(second.shape[:2])
            linear = place[:, :2] * (other / one)
            shift = place[:, 2] * other + linear @ [0.5, 0.5] - 0.5  # by the centres of pixels
            moved = cv2.warpAffine(first, np.column_stack([linear, shift]), second.shape[1::-1])
            data = thumbs.png(np.asarray(moved, np.uint8))
        return Response(data, media_type="image/png")

    # ---------------------------------------------------------------------------------------------------------- decided

    async def decide(self, request: Request) -> Response:
        content = body(await request.body())
        kind, thing = self._at(content.get("kind"), content.get("number"))
        pictures = [self._picture(row) for row in thing["rows"]]
        other = pictures[1] if len(pictures) > 1 else None
        with self._lock:
            name = review.append(self.home, kind, str(content.get("verdict")), pictures[0], other)
        return JSONResponse({"id": name})

    async def undo(self, request: Request) -> Response:
        content = body(await request.body())
        with self._lock:
            return JSONResponse({"id": review.undo(self.home, str(content.get("id")))})

    def _picture(self, row: int) -> Picture:
        return Picture(*self._end(row), str(self.catalogue.facts(row).get("pixel_hash") or ""))
