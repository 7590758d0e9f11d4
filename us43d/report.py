"""Pages that open without a network: embedded images, plots as inline SVG, no script."""

import base64
import html
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.pictures.levels import eight_bits

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "COLOURS", "Figure", "Series", "bars", "bubbles", "curve", "figures", "forest", "legend", "lines", "markdown",
    "overlay", "page", "picture", "ranges", "scatter", "table",
]  # fmt: skip

#: Okabe and Ito's colours, told apart by nearly everyone (RGB).
COLOURS = {
    "truth": (86, 180, 233), "found": (230, 159, 0), "prompt": (240, 228, 66), "outside": (204, 121, 167),
}  # fmt: skip
#: One mask (h, w), or several.
Masks: TypeAlias = NDArray[np.bool_] | Sequence[NDArray[np.bool_]]
_LINES = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")


@cache
def _templates() -> "Environment":
    """Return the templates of the local page for pages without a server: inline style, nothing else is loaded."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = resources.files("us43d.view").joinpath("page")
    made = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.globals["style"] = "".join(folder.joinpath(name).read_text("utf-8") for name in ("style.css", "static.css"))
    return made


def page(title: str, sections: Iterable[tuple[str, str]], subtitle: str = "") -> str:
    """Return a whole page.

    Args:
        title: Title of the page.
        sections: (heading, HTML); a heading may be empty.
        subtitle: Plain text.
    """
    return _templates().get_template("static.html").render(title=title, sections=list(sections), subtitle=subtitle)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table: columns with text to the left, numbers to the right; NaN and None as –."""
    rows = [list(row) for row in rows]
    words = [any(_is_text(row[n]) for row in rows) for n in range(len(heads))]
    cells = [[_text(value).split(" (", 1) for value in row] for row in rows]
    return _templates().get_template("table.html").render(heads=heads, rows=cells, words=words)


def _is_text(value: Any) -> bool:
    """Whether a cell holds text that does not begin with a number."""
    return isinstance(value, str) and bool(value) and not value.lstrip("+−-")[:1].isdigit()


def markdown(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return the same table in Markdown."""
    filled = [[str(value) for value in heads], ["---"] * len(heads), *([_text(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in filled) + "\n"


def _cell(text: str) -> str:
    """Return text, such as a name of the user, as a cell: one line that is neither markup nor the end of the cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


# ------------------------------------------------------------------------------------------------------------ images


class Figure(NamedTuple):
    """image: an <img> of `picture`. caption: plain text."""

    image: str
    caption: str


def figures(items: Iterable[Figure], *, wide: bool = False) -> str:
    """Return captioned images side by side. wide: two in a row, for images that are pairs themselves."""
    shown = [(_described(figure), figure.caption) for figure in items]
    return _templates().get_template("figures.html").render(figures=shown, wide=wide)


def _described(figure: Figure) -> str:
    """Return the image with its caption as alternative text, unless it has one."""
    return figure.image.replace('<img alt=""', f'<img alt="{html.escape(figure.caption)}"', 1)


def legend(names: Iterable[str] = ("truth", "found", "prompt")) -> str:
    """Return the legend of the colours of outlines."""
    keys = (f'<span class="key" style="background:rgb{COLOURS[name]}"></span>{name}' for name in names)
    return f"<p>{''.join(keys)}</p>"


def overlay(
    image: NDArray[Any],
    outlines: Mapping[str, Masks],
    box: Sequence[float] | None = None,
    points: Sequence[tuple[float, float, int]] = (),
    *,
    crop: bool = False,
    side: int = 320,
) -> NDArray[np.uint8]:
    """Draw the outlines of masks and a prompt on an image; the longer side of the result has `side` pixels.

    Args:
        image: (h, w) grey or (h, w, 3) RGB.
        outlines: Name of COLOURS → mask (h, w), or several masks.
        box: x0, y0, x1, y1 in pixels.
        points: (x, y, 1 inside or 0 outside).
        crop: Show only the region around outlines and prompt.
        side: Longer side of the result, in pixels.

    Returns:
        (h, w, 3) RGB uint8.
    """
    image = eight_bits(image)
    full = np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
    x0, y0, x1, y1 = _region(full.shape[:2], outlines, box, points) if crop else (0, 0, *full.shape[1::-1])
    scale = side / max(x1 - x0, y1 - y0)
    size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = np.ascontiguousarray(cv2.resize(full[y0:y1, x0:x1], size, interpolation=how)).astype(np.uint8)

    def place(x: float, y: float) -> tuple[int, int]:
        return round((x - x0 + 0.5) * scale), round((y - y0 + 0.5) * scale)

    for colour, mask in (pair for name, masks in outlines.items() for pair in _coloured(name, masks)):
        cropped = np.ascontiguousarray(mask[y0:y1, x0:x1]).view(np.uint8) * np.uint8(255)
        large = (cv2.resize(cropped, size, interpolation=cv2.INTER_LINEAR) >= 128).astype(np.uint8)
        contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, colour, 2, cv2.LINE_AA)
    if box is not None:
        corners = place(box[0] - 0.5, box[1] - 0.5), place(box[2] - 0.5, box[3] - 0.5)
        cv2.rectangle(canvas, *corners, COLOURS["prompt"], 1, cv2.LINE_AA)
    for x, y, inside in points:
        cv2.circle(canvas, place(x, y), 5, (0, 0, 0), -1, cv2.LINE_AA)
        cv2.circle(canvas, place(x, y), 4, COLOURS["prompt" if inside else "outside"], -1, cv2.LINE_AA)
    return canvas


def picture(pixels: NDArray[np.uint8], alt: str = "") -> str:
    """Return an <img> element that embeds the image (h, w, 3) RGB."""
    _, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f'<img alt="{html.escape(alt)}" src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}">'


def _coloured(name: str, masks: Masks) -> Iterator[tuple[tuple[int, int, int], NDArray[np.bool_]]]:
    """Yield (RGB, mask): the colour of the name, or for several masks the colours of plots in turn."""
    several: Any = (masks,) if isinstance(masks, np.ndarray) and masks.ndim == 2 else masks
    for n, mask in enumerate(several):
        text = _LINES[n % len(_LINES)]
        alone = len(several) == 1
        yield COLOURS[name] if alone else (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)), mask


def _region(
    shape: tuple[int, ...],
    outlines: Mapping[str, Masks],
    box: Sequence[float] | None,
    points: Sequence[tuple[float, float, int]],
) -> tuple[int, int, int, int]:
    """Return (x0, y0, x1, y1) around all drawn shapes, half its size wider on each side, at least 64 pixels."""
    corners = [(x, y) for x, y, _ in points] + ([(box[0], box[1]), (box[2], box[3])] if box is not None else [])
    for _, mask in (pair for name, masks in outlines.items() for pair in _coloured(name, masks)):
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        corners += [(x, y), (x + width, y + height)] if width else []
    if not corners:
        return 0, 0, shape[1], shape[0]
    low, high = np.min(corners, 0), np.max(corners, 0)
    room = max(float((high - low).max()) / 2, 32)
    x0, y0 = (int(v) for v in np.clip(np.floor(low - room), 0, (shape[1] - 1, shape[0] - 1)))
    x1, y1 = (int(v) for v in np.clip(np.ceil(high + room), (x0 + 1, y0 + 1), (shape[1], shape[0])))
    return x0, y0, x1, y1


# --------------------------------------------------------------------------------------------------------------- plots
#
# A plot takes the width of the page: x is in per cent of it, y in pixels, so that text has one size on every screen.

_NOTHING = '<p class="soft">nothing to draw yet</p>'
#: Fills of stacked bars, in the order of the parts.
_BARS = ("#0072b2", "#e69f00", "#009e73", "#999999")


class Series(NamedTuple):
    """A named line through (x, y)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class _Area(NamedTuple):
    """The plane of a plot: x from `left` to `right`, y from the lowest to the highest of its ticks."""

    left: float
    right: float
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    height: int

    def across(self, value: float) -> float:
        """Per cent of the width."""
        return 100 * (value - self.left) / ((self.right - self.left) or 1)

    def up(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return self.height - (value - low) / (high - low) * (self.height - 10)

    def drawn(self, parts: Iterable[str], x: str, y: str) -> str:
        """Return the plot with its axes. x, y: their labels."""
        axes = []
        for tick in self.y_ticks:
            at = f"{self.up(tick):.1f}"
            axes.append(f'<line x1="0" x2="100%" y1="{at}" y2="{at}" class="tick"/>')
            axes.append(f'<text x="-6" y="{at}" dy="4" text-anchor="end">{tick:g}</text>')
        ticks = [(self.across(tick), f"{tick:g}") for tick in self.x_ticks if tick <= self.right]
        middle = f"translate(-44 {self.height / 2:.0f}) rotate(-90)"
        axes.append(f'<text transform="{middle}" text-anchor="middle">{html.escape(y)}</text>')
        return (
            f'<div class="area"><svg height="{self.height}" role="img" aria-label="{html.escape(f"{y} by {x}")}">'
            f"{''.join([*axes, *parts])}</svg>{_axis(ticks, x)}</div>"
        )


def _axis(ticks: Iterable[tuple[float, str]], label: str) -> str:
    """Return the x axis. ticks: (per cent of the width, text)."""
    texts = [f'<text x="{at:.2f}%" y="16" text-anchor="middle">{text}</text>' for at, text in ticks]
    texts.append(f'<text x="50%" y="34" text-anchor="middle">{html.escape(label)}</text>')
    return f'<svg height="40" aria-hidden="true">{"".join(texts)}</svg>'


def _rows(
    rows: Iterable[tuple[str, str, Iterable[str]]], ticks: Sequence[tuple[float, str]], label: str, height: int
) -> str:
    """Return one line for each row above a common x axis; on a narrow screen names stand above their lines.

    Rows: (name, the row in words, parts of its drawing). ticks: (per cent of the width, text). height: of a line.
    """
    grid = "".join(f'<line x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="{height}" class="tick"/>' for at, _ in ticks)
    lines = [
        f'<span>{html.escape(name)}</span><svg height="{height}" role="img" '
        f'aria-label="{html.escape(f"{name}: {words}")}">{grid}{"".join(parts)}</svg>'
        for name, words, parts in rows
    ]
    return f'<div class="rows">{"".join(lines)}<span></span>{_axis(ticks, label)}</div>'


def _key(names: Sequence[str], colours: Sequence[str] = _LINES) -> str:
    keys = (
        f'<span class="key" style="background:{colours[n % len(colours)]}"></span>{html.escape(name)}'
        for n, name in enumerate(names)
    )
    return f"<p>{''.join(keys)}</p>"


def _dot(x: float, y: float, colour: str, radius: float = 3.5) -> str:
    return f'<circle cx="{x:.2f}%" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}"/>'


def _span(low: float, high: float, y: float, colour: str, width: float, opacity: float = 1) -> str:
    return (
        f'<line x1="{low:.2f}%" x2="{high:.2f}%" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" '
        f'stroke-opacity="{opacity:g}" stroke-width="{width:g}"/>'
    )


def _finite(x: Sequence[float], y: Sequence[float]) -> tuple[Any, Any]:
    a, b = np.asarray(x, float), np.asarray(y, float)
    good = np.isfinite(a) & np.isfinite(b)
    return a[good], b[good]


def _ticks(low: float, high: float) -> list[float]:
    """Return four to seven round numbers that cover low … high."""
    span = high - low if high > low else abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if span / (m * step) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]


def lines(
    series: Sequence[Series], x: str, y: str, *, floor: float | None = None, span: float = 0.0, top: float = math.inf
) -> str:
    """Return a line plot as SVG.

    Args:
        series: The lines.
        x: Label of the x axis.
        y: Label of the y axis.
        floor: Lowest value of the y axis.
        span: Smallest extent of the y axis, so that differences without meaning look small.
        top: Largest value that y can have, beyond which the axis is not extended.
    """
    kept = [Series(s.name, *_finite(s.x, s.y)) for s in series]
    kept = [s for s in kept if len(s.x)]
    if not kept:
        return _NOTHING
    xs, ys = np.concatenate([s.x for s in kept]), np.concatenate([s.y for s in kept])
    low, high = (ys.min() if floor is None else min(floor, ys.min())), ys.max()
    if high - low < span:
        high = min(top, (low + high + span) / 2)
        low = high - span
    x_ticks = _ticks(xs.min(), xs.max())
    area = _Area(min(x_ticks[0], xs.min()), max(xs.max(), xs.min() + 1e-9), x_ticks, _ticks(low, high), 240)
    shapes = []
    for n, s in enumerate(kept):
        colour = _LINES[n % len(_LINES)]
        at = " ".join(f"{10 * area.across(a):.1f},{area.up(b):.1f}" for a, b in zip(s.x, s.y, strict=True))
        shapes.append(
            f'<svg width="100%" height="{area.height}" viewBox="0 0 1000 {area.height}" preserveAspectRatio="none">'
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" vector-effect="non-scaling-stroke" '
            f'points="{at}"/></svg>'
        )
        if len(s.x) <= 60:
            shapes += [_dot(area.across(a), area.up(b), colour, 2.4) for a, b in zip(s.x, s.y, strict=True)]
    return f"<div>{area.drawn(shapes, x, y)}{_key([s.name for s in kept]) if len(kept) > 1 else ''}</div>"


def forest(rows: Sequence[tuple[str, Sequence[tuple[str, float, float, float]]]], x: str) -> str:
    """Return means with intervals, one line per row, as SVG.

    Args:
        rows: (label, ((series, mean, low, high), …)); x from 0 to 1.
        x: Label of the axis.
    """
    names = list(dict.fromkeys(name for _, items in rows for name, *_ in items))

    def row(items: Sequence[tuple[str, float, float, float]]) -> Iterator[str]:
        for name, mean, low, high in items:
            place = names.index(name)
            y, colour = 11 + 12 * place, _LINES[place % len(_LINES)]
            if math.isfinite(low) and math.isfinite(high):
                yield _span(100 * low, 100 * high, y, colour, 2)
            if math.isfinite(mean):
                yield _dot(100 * mean, y, colour, 4)

    def words(name: str, mean: float, low: float, high: float) -> str:
        interval = f" ({low:.3f} to {high:.3f})" if math.isfinite(low) and math.isfinite(high) else ""
        return f"{name} {_text(float(mean))}{interval}"

    described = [(label, ", ".join(words(*item) for item in items), row(items)) for label, items in rows]
    ticks = [(100 * tick, f"{tick:.1f}") for tick in np.linspace(0, 1, 6)]
    return f"<div>{_rows(described, ticks, x, 12 * max(1, len(names)) + 10)}{_key(names)}</div>"


#: Values of a run's log that are drawn, and under what name.
_CURVES = (
    ("loss", (("loss", "loss"),)),
    ("validation Dice", (("box_dice", "box prompt"), ("point_dice", "point prompt"), ("ellipse_dice", "ellipse"))),
)


def curve(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the learning curve of a run's log: loss, and Dice on the validation images."""
    panels = []
    for label, names in _CURVES:
        seen = [
            (name, [(r["step"], r[key]) for r in records if r.get("kind") in ("step", "validation") and key in r])
            for key, name in names
        ]
        series = [Series(name, *zip(*at, strict=True)) for name, at in seen if at]
        if series:
            panels.append(lines(series, "step", label, floor=0.0))
    return f'<div class="panels">{"".join(panels)}</div>' if panels else '<p class="soft">no step was logged</p>'


def bars(rows: Sequence[tuple[str, Sequence[float]]], x: str, names: Sequence[str] = ()) -> str:
    """Plot horizontal bars as SVG, stacked of the values of a row. x: label of the axis. names: of the values."""
    if not rows:
        return _NOTHING
    most = max(sum(values) for _, values in rows) or 1

    def row(values: Sequence[float]) -> Iterator[str]:
        at = 0.0
        for n, value in enumerate(values):
            share = 100 * value / most
            yield f'<rect x="{at:.2f}%" y="3" width="{share:.2f}%" height="14" fill="{_BARS[n % len(_BARS)]}"/>'
            at += share
        yield f'<text x="{at:.2f}%" dx="6" y="14">{sum(values):,g}</text>'

    def words(values: Sequence[float]) -> str:
        parts = [f"{value:,g} {name}" for name, value in zip(names, values, strict=True)] if names else ()
        return ", ".join(parts) or f"{sum(values):,g}"

    ticks = [(100 * tick / most, f"{tick:,g}") for tick in _ticks(0, most) if tick <= most * 1.001]
    plot = _rows([(label, words(values), row(values)) for label, values in rows], ticks, x, 20)
    return f"<div>{plot}{_key(names, _BARS) if names else ''}</div>"


def ranges(rows: Sequence[tuple[str, Sequence[float]]], x: str) -> str:
    """Return distributions on a logarithmic axis as SVG.

    Rows: (label, five quantiles from low to high). x: their name.
    """
    rows = [(label, values) for label, values in rows if values and min(values) > 0]
    if not rows:
        return _NOTHING
    first = math.floor(math.log10(min(values[0] for _, values in rows)))
    last = max(math.ceil(math.log10(max(values[-1] for _, values in rows))), first + 1)

    def row(values: Sequence[float]) -> list[str]:
        at = [100 * (math.log10(value) - first) / (last - first) for value in values]
        line, box = _span(at[0], at[4], 10, _LINES[1], 1.5, 0.7), _span(at[1], at[3], 10, _LINES[1], 9, 0.45)
        return [line, box, _dot(at[2], 10, _LINES[0])]

    described = [(label, f"{v[0]:.2g}, {v[1]:.2g}, {v[2]:.2g}, {v[3]:.2g}, {v[4]:.2g}", row(v)) for label, v in rows]
    ticks = [(100 * (power - first) / (last - first), f"{10.0**power:g}") for power in range(first, last + 1)]
    return _rows(described, ticks, x, 20)


def bubbles(groups: Sequence[tuple[str, Sequence[tuple[float, float, float]]]], x: str, y: str) -> str:
    """Return circles at (x, y) whose areas show a number, as SVG. groups: (label, ((x, y, number), …))."""
    points = [(label, *point) for label, of in groups for point in of]
    if not points:
        return _NOTHING
    x_ticks, y_ticks = _ticks(0, max(p[1] for p in points)), _ticks(0, max(p[2] for p in points))
    area, most = _Area(0, x_ticks[-1], x_ticks, y_ticks, 400), max(p[3] for p in points)
    circles = [
        f'<circle cx="{area.across(at):.2f}%" cy="{area.up(high):.1f}" r="{3 + 17 * math.sqrt(number / most):.1f}" '
        f'fill="{_LINES[1]}" fill-opacity="0.35" stroke="{_LINES[1]}">'
        f"<title>{html.escape(label)}: {at:g} × {high:g}, {number:,g}</title></circle>"
        for label, at, high, number in sorted(points, key=lambda p: -p[3])
    ]
    return area.drawn(circles, x, y)


def scatter(x: Any, y: Any, across: str, up: str, levels: Mapping[str, float]) -> str:
    """Return points (x, y) with named horizontal lines, as SVG. across, up: labels of the axes. levels: name → y."""
    a, b = _finite(x, y)
    if not len(a):
        return _NOTHING
    finite = {name: level for name, level in levels.items() if math.isfinite(level)}
    x_ticks = _ticks(float(a.min()), float(a.max()))
    y_ticks = _ticks(min(float(b.min()), *finite.values(), 0.0), max(float(b.max()), *finite.values(), 0.0))
    area = _Area(x_ticks[0], x_ticks[-1], x_ticks, y_ticks, 300)
    shapes = [
        f'<circle cx="{area.across(p):.2f}%" cy="{area.up(q):.1f}" r="3" fill="{_LINES[1]}" fill-opacity="0.55"/>'
        for p, q in zip(a, b, strict=True)
    ]
    for name, level in finite.items():
        shapes.append(_span(0, 100, area.up(level), _LINES[0], 1.4, 0.9))
        shapes.append(f'<text x="100%" y="{area.up(level) - 4:.1f}" text-anchor="end">{name} {level:.3g}</text>')
    return area.drawn(shapes, across, up)
