"""The site of `us43d view`: grid, one image, sources."""

from collections.abc import Mapping
from typing import Any

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from us43d.harmonize.built import Build
from us43d.harmonize.corpus import OWN, SPECK, SPLITS
from us43d.harmonize.corrections import REMARK
from us43d.licences import CAVEAT
from us43d.masks import read
from us43d.pictures.levels import eight_bits
from us43d.splits import review
from us43d.view import thumbs
from us43d.view.catalogue import Catalogue, Query
from us43d.view.inputs import value_range
from us43d.view.opening import Other
from us43d.view.pages import render
from us43d.view.server import window
from us43d.view.thumbs import Thumbs

__all__ = ["Browse", "query"]

#: Rows of one answer at most.
_WINDOW = 500
#: Images of a group listed beside one of them.
_NEIGHBOURS = 5000
#: Of these, shown small on each side.
_NEAREST = 4
#: Groups that an address may name.
_MOST_GROUPS = 200
_FOREVER = {"cache-control": "private, max-age=31536000, immutable"}


def query(catalogue: Catalogue, parameters: Any) -> Query:
    """Return the images that an address selects; other parameters belong to the page.

    Raises:
        HTTPException: For an unknown order.
    """
    choices = tuple(
        (name, tuple(parameters.getlist(name))) for name in catalogue.facets if name in parameters
    )  # fmt: skip
    order = parameters.get("sort", "key")
    if order not in catalogue.orders:
        raise HTTPException(400, f"Unknown order {order!r}.")
    like = parameters.get("like", "0")
    if not like.isdigit() or len(like) > 16:
        raise HTTPException(400, "The id of an image is a whole number.")
    groups = tuple(parameters.getlist("group"))
    if len(groups) > _MOST_GROUPS:
        raise HTTPException(400, f"An address names at most {_MOST_GROUPS} groups, not {len(groups):,}.")
    return Query(choices, parameters.get("q", "")[:400], groups, order, int(like))


class Browse:
    """Answers about one catalogue.

    predictions: annotation id → dice, score and rle of an evaluation. against: image id → what another build has.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        kept: Thumbs,
        title: str,
        predictions: Mapping[int, Mapping[str, Any]] | None = None,
        against: Mapping[int, Other] | None = None,
    ) -> None:
        self.catalogue, self.thumbs, self.title = catalogue, kept, title
        self.predictions, self.against = predictions or {}, against or {}
        self._names = [source["name"] for source in catalogue.corpus.sources]
        self._categories = {entry["id"]: entry for entry in catalogue.corpus.categories}
        self._version = catalogue.corpus.digest[:12]
        self._rules: dict[int, str] = {}

    def routes(self) -> list[Route]:
        return [
            Route("/", self.grid_page),
            Route("/image/{id:int}", self.image_page),
            Route("/source/{slug}", self.source_page),
            Route("/api/facets", self.facets),
            Route("/api/groups", self.groups),
            Route("/api/grid", self.window),
            Route("/api/image/{id:int}", self.image),
            Route("/thumb/{id:int}", self.thumb),
            Route("/overlay/{id:int}", self.overlay),
            Route("/pixels/{id:int}", self.pixels),
        ]

    # ------------------------------------------------------------------------------------------------------------ pages

    def grid_page(self, request: Request) -> Response:
        return HTMLResponse(render("grid.html", title=self.title, orders=self.catalogue.orders, corpus=self._version))

    def image_page(self, request: Request) -> Response:
        row = self._row(request)
        return HTMLResponse(render("image.html", title=self.catalogue.key(row), corpus=self._version))

    def source_page(self, request: Request) -> Response:
        from us43d.view.sources import source_page

        return HTMLResponse(source_page(self.catalogue, request.path_params["slug"], self.title))

    # ------------------------------------------------------------------------------------------------------------- JSON

    def facets(self, request: Request) -> Response:
        wanted = query(self.catalogue, request.query_params)
        return JSONResponse(
            {"total": len(self.catalogue.rows(wanted)), "all": len(self.catalogue),
             "facets": self.catalogue.counted(wanted)}
        )  # fmt: skip

    def groups(self, request: Request) -> Response:
        """Return the largest groups of a query; `text`: in their names."""
        wanted = query(self.catalogue, request.query_params)
        return JSONResponse(self.catalogue.groups_of(wanted, request.query_params.get("text", "")[:400]))

    def window(self, request: Request) -> Response:
        """Return rows start … start + count of a query; with `id`, the window starts at that image."""
        catalogue, parameters = self.catalogue, request.query_params
        rows = catalogue.rows(query(catalogue, parameters))
        start, count = _whole(parameters.get("start", "0")), min(_WINDOW, _whole(parameters.get("count", "100")))
        place = None
        if "id" in parameters:
            row = catalogue.row(_whole(parameters["id"]))
            places = (rows == row).nonzero()[0]
            place = int(places[0]) if len(places) else None
            start = place or 0
        tiles = [self._tile(int(row)) for row in rows[start : start + count]]
        return JSONResponse({"total": len(rows), "start": start, "place": place, "rows": tiles})

    def _tile(self, row: int) -> dict[str, Any]:
        catalogue = self.catalogue
        tile = {
            "id": int(catalogue.ids[row]), "key": catalogue.key(row), "source": self._names[catalogue.sources[row]],
            "split": catalogue.state(row), "annotations": int(catalogue.counts[row]),
        }  # fmt: skip
        if catalogue.worst[row] < 2:
            tile["dice"] = round(float(catalogue.worst[row]), 3)
        return tile

    def image(self, request: Request) -> Response:
        """Return all records of an image, with its masks as compressed RLE."""
        catalogue = self.catalogue
        row = self._row(request)
        source = catalogue.corpus.sources[catalogue.sources[row]]
        facts = catalogue.facts(row)
        place = int(catalogue.images[row])
        members = catalogue.members(row)
        at = members.index(row) if row in members else 0
        first = max(0, at - _NEIGHBOURS // 2)
        spacing = catalogue.corpus.images["spacing"][place].tolist() if place >= 0 else []
        answer = {
            **self._tile(row), "shown": place >= 0, "width": int(catalogue.widths[row]),
            "height": int(catalogue.heights[row]), "group": catalogue.group(row),
            "spacing": spacing if all(value > 0 for value in spacing) else [],
            "facts": {name: value for name, value in facts.items() if name not in ("id", "key", "phash", "group")},
            "why": self._why(row, facts),
            "licence": source["licence"], "caveat": CAVEAT, "build": f"{source['name']}/{source['version']}",
            "slug": source["slug"], "specimen": bool(source.get("specimen")),
            "citations": source["citations"],
            "masks": self._masks(place) if place >= 0 else [],
            "other": other._asdict() if (other := self.against.get(int(catalogue.ids[row]))) else None,
            "members": [int(catalogue.ids[n]) for n in members[first : first + _NEIGHBOURS]],
            "group_size": len(members),
            "nearest": [
                self._tile(members[n]) | {"at": n + 1}
                for n in range(max(0, at - _NEAREST), min(len(members), at + _NEAREST + 1))
                if n != at
            ],
            "twins": [self._tile(other) | {"why": why} for other, why in catalogue.twins.get(row, ())],
            "range": self._range(place) if place >= 0 else None,
            "correctable": place >= 0 and source["slug"] != OWN, "fix": self._fix(source, facts),
            "wrong": self._wrong(source, facts),
            "rebuild": catalogue.rebuild([source["name"]]),
        }  # fmt: skip
        rows = catalogue.rows(query(catalogue, request.query_params))
        places = (rows == row).nonzero()[0]
        answer["place"], answer["total"] = (int(places[0]) if len(places) else None), len(rows)
        if len(places):
            n = int(places[0])
            answer["previous"] = int(catalogue.ids[rows[n - 1]]) if n else None
            answer["next"] = int(catalogue.ids[rows[n + 1]]) if n + 1 < len(rows) else None
        return JSONResponse(answer)

    def _why(self, row: int, facts: Mapping[str, Any]) -> str:
        """Return why an image is in its split; empty where its remarks say it, or it is in none."""
        state, number = self.catalogue.state(row), int(self.catalogue.sources[row])
        source = self.catalogue.corpus.sources[number]
        if state == "excluded" and facts.get("split") in SPLITS[:3]:
            return "another source of this corpus evaluates on the same image or a near-duplicate"
        if state not in SPLITS[:3] or source["slug"] == OWN:
            return ""
        if facts.get("official_split") == state:
            return "as published"
        if number not in self._rules:
            splits = Build(self.catalogue.corpus.home / source["path"]).facts.get("splits", {})
            self._rules[number] = str(splits.get("rule", ""))
        return self._rules[number]

    def _range(self, place: int) -> tuple[float, float] | None:
        with self.thumbs.decoding:
            return value_range(self.catalogue.corpus.file(place))

    def _fix(self, source: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the fix that applies to an image, and whether the shown build includes one."""
        fix = review.fixes(self.catalogue.corpus.home).get((str(source["slug"]), str(facts["key"])))
        if fix is None or fix.image.picture != facts.get("pixel_hash"):
            return None
        return {"id": fix.id, "who": fix.who, "when": fix.when[:10], "built": REMARK in (facts["remarks"] or "")}

    def _wrong(self, source: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the verdict that excludes an image, and whether the shown build applies it."""
        image, verdict = review.wrong(self.catalogue.corpus.home).get(
            (str(source["slug"]), str(facts["key"])), (None, None)
        )
        if image is None or verdict is None or image.picture != facts.get("pixel_hash"):
            return None
        built = review.WRONG in (facts["remarks"] or "")
        return {"id": verdict.id, "who": verdict.who, "when": verdict.when[:10], "built": built}

    def _masks(self, image: int) -> list[dict[str, Any]]:
        corpus = self.catalogue.corpus
        masks = []
        for annotation in corpus.of(image):
            record = corpus.annotations[annotation]
            entry = self._categories.get(int(record["category"]), {"name": "unknown", "supercategory": ""})
            mask = {
                "id": int(record["id"]), "structure": entry["name"], "organ": entry["supercategory"],
                "colour": thumbs.colour(int(record["category"])), "area": int(record["area"]),
                "box": record["bbox"].tolist(), "rle": corpus.rle(annotation).decode("ascii"),
                "diagnosis": corpus.facts["diagnoses"][int(record["diagnosis"])],
                "speck": bool(record["flags"] & SPECK),
            }  # fmt: skip
            if prediction := self.predictions.get(int(record["id"])):
                mask["prediction"] = prediction
            masks.append(mask)
        return masks

    # ---------------------------------------------------------------------------------------------------------- images

    def _row(self, request: Request) -> int:
        row = self.catalogue.row(request.path_params["id"])
        if row is None:
            raise HTTPException(404, f"No image with the id {request.path_params['id']} is in {self.title}.")
        return row

    def _place(self, request: Request) -> int:
        """Return the row in the corpus of an image that has pixels."""
        place = int(self.catalogue.images[self._row(request)])
        if place < 0:
            raise HTTPException(404, "This sample was dropped: it has no image.")
        return place

    def _kept(self, name: str, kind: str, make: Any) -> Response:
        data, then = self.thumbs.get(name), None
        if data is None:
            with self.thumbs.decoding:
                data = make()
            then = BackgroundTask(self.thumbs.put, name, data)  # written once the browser has it
        return Response(data, media_type=f"image/{kind}", headers=_FOREVER, background=then)

    def thumb(self, request: Request) -> Response:
        place = self._place(request)
        corpus = self.catalogue.corpus
        return self._kept(
            f"thumb {self._version} {corpus.images['id'][place]}",
            "jpeg",
            lambda: thumbs.thumbnail(thumbs.small(corpus.file(place))),
        )

    def overlay(self, request: Request) -> Response:
        place = self._place(request)
        corpus = self.catalogue.corpus
        image = corpus.images[place]
        rows = sorted(corpus.of(place), key=lambda n: -corpus.annotations["area"][n])
        return self._kept(
            f"outlines {self._version} {image['id']}",
            "png",
            lambda: thumbs.overlay(
                (int(image["height"]), int(image["width"])),
                [(int(corpus.annotations["category"][n]), corpus.mask(n)) for n in rows],
            ),
        )

    def pixels(self, request: Request) -> Response:
        """Return the image at its own size in 8 bits. low, high: window of a 16-bit image."""
        place, chosen = self._place(request), window(request)
        with self.thumbs.decoding:
            data = thumbs.png(eight_bits(read.image(self.catalogue.corpus.file(place)), chosen))
        return Response(data, media_type="image/png", headers=_FOREVER)


def _whole(text: str) -> int:
    if not text.isdigit() or len(text) > 16:
        raise HTTPException(400, "Invalid place. Use a whole number.")
    return int(text)
