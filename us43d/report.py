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
    """Return an HTML table: text to the left, numbers to the right, floats with three decimals, NaN and None as –."""
    cells = [[(_text(value), isinstance(value, str) and not value[:1].isdigit()) for value in row] for row in rows]
    return _templates().get_template("table.html").render(heads=heads, rows=cells)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return the same table in Markdown."""
    filled = [[str(value) for value in heads], ["---"] * len(heads), *([_text(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in filled) + "\n"


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


class Series(NamedTuple):
    """A named line through (x, y)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def lines(series: Sequence[Series], x: str, y: str, *, floor: float | None = None, span: float = 0.0) -> str:
    """Return a line plot as SVG.

    Args:
        series: The lines.
        x: Label of the x axis.
        y: Label of the y axis.
        floor: Lowest value of the y axis.
        span: Smallest extent of the y axis, so that differences without meaning look small.
    """
    width, height, left, right, top, bottom = 520, 280, 58, 12, 14, 42
    kept = [Series(s.name, *_finite(s.x, s.y)) for s in series]
    kept = [s for s in kept if len(s.x)]
    if not kept:
        return '<p class="soft">nothing to draw yet</p>'
    xs, ys = np.concatenate([s.x for s in kept]), np.concatenate([s.y for s in kept])
    low, high = (ys.min() if floor is None else floor), ys.max()
    if high - low < span:
        low, high = (low + high - span) / 2, (low + high + span) / 2
    x_ticks, y_ticks = _ticks(xs.min(), xs.max()), _ticks(low, high)
    x_low, x_high = min(x_ticks[0], xs.min()), max(xs.max(), xs.min() + 1e-9)
    y_low, y_high = min(y_ticks[0], ys.min()), max(y_ticks[-1], ys.max())

    def across(value: float) -> float:
        return float(left + (value - x_low) / (x_high - x_low) * (width - left - right))

    def up(value: float) -> float:
        return float(height - bottom - (value - y_low) / (y_high - y_low) * (height - top - bottom))

    parts = []
    for tick in y_ticks:
        parts.append(_line(left, up(tick), width - right, up(tick), "currentColor", 0.15))
        parts.append(f'<text x="{left - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in (tick for tick in x_ticks if tick <= x_high):
        parts.append(f'<text x="{across(tick):.1f}" y="{height - bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for n, s in enumerate(kept):
        colour = _LINES[n % len(_LINES)]
        at = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in zip(s.x, s.y, strict=True))
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{at}"/>')
        if len(s.x) <= 60:
            parts += [f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="2.4" fill="{colour}"/>'
                      for a, b in zip(s.x, s.y, strict=True)]  # fmt: skip
    parts.append(f'<text x="{(left + width) / 2:.0f}" y="{height - 6}" text-anchor="middle">{html.escape(x)}</text>')
    middle = (top + height - bottom) / 2
    parts.append(
        f'<text transform="translate(13 {middle:.0f}) rotate(-90)" text-anchor="middle">{html.escape(y)}</text>'
    )
    key = _key([s.name for s in kept]) if len(kept) > 1 else ""
    return f"<div>{_svg(parts, width, height, f'{y} by {x}')}{key}</div>"


def forest(rows: Sequence[tuple[str, Sequence[tuple[str, float, float, float]]]], x: str) -> str:
    """Return means with intervals, one line per row, as SVG.

    Args:
        rows: (label, ((series, mean, low, high), …)); x from 0 to 1.
    """
    names = list(dict.fromkeys(name for _, items in rows for name, *_ in items))
    left, right, width, step = 190, 20, 720, 12 * max(1, len(names)) + 10
    height = step * len(rows) + 40

    def across(value: float) -> float:
        return left + value * (width - left - right)

    parts = []
    for tick in np.linspace(0, 1, 6):
        parts.append(_line(across(tick), 4, across(tick), height - 34, "currentColor", 0.15))
        parts.append(f'<text x="{across(tick):.1f}" y="{height - 20}" text-anchor="middle">{tick:.1f}</text>')
    for n, (label, items) in enumerate(rows):
        middle = n * step + step / 2 + 2
        parts.append(f'<text x="{left - 10}" y="{middle + 4:.1f}" text-anchor="end">{html.escape(label[:28])}</text>')
        for name, mean, low, high in items:
            place = names.index(name)
            y, colour = middle + 12 * (place - (len(names) - 1) / 2), _LINES[place % len(_LINES)]
            if math.isfinite(low) and math.isfinite(high):
                parts.append(_line(across(low), y, across(high), y, colour, 1, 2))
            if math.isfinite(mean):
                parts.append(f'<circle cx="{across(mean):.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
    parts.append(f'<text x="{across(0.5):.0f}" y="{height - 4}" text-anchor="middle">{html.escape(x)}</text>')
    return f"<div>{_svg(parts, width, height, x)}{_key(names)}</div>"


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
    return f'<div class="grid">{"".join(panels)}</div>' if panels else '<p class="soft">no step was logged</p>'


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


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, opacity: float, width: float = 1) -> str:
    return (
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}" '
        f'stroke-opacity="{opacity}" stroke-width="{width}"/>'
    )


def _key(names: Sequence[str], colours: Sequence[str] = _LINES) -> str:
    keys = (
        f'<span class="key" style="background:{colours[n % len(colours)]}"></span>{html.escape(name)}'
        for n, name in enumerate(names)
    )
    return f"<p>{''.join(keys)}</p>"


def bars(rows: Sequence[tuple[str, Sequence[float]]], x: str, names: Sequence[str] = ()) -> str:
    """Plot horizontal bars as SVG, stacked of the values of a row. x: label of the axis. names: of the values."""
    if not rows:
        return '<p class="soft">nothing to draw yet</p>'
    left, right, width, step, top = 190, 80, 760, 20, 8
    most = max(sum(values) for _, values in rows) or 1
    ticks = [tick for tick in _ticks(0, most) if tick <= most * 1.001]
    height = top + step * len(rows) + 42
    unit = (width - left - right) / most
    parts = [_line(left + t * unit, top, left + t * unit, height - 38, "currentColor", 0.15) for t in ticks]
    parts += [_label(left + t * unit, height - 22, f"{t:,g}", "middle") for t in ticks]
    for n, (label, values) in enumerate(rows):
        y, at = top + n * step, float(left)
        parts.append(_label(left - 8, y + 14, label[:28], "end"))
        for m, value in enumerate(values):
            parts.append(
                f'<rect x="{at:.1f}" y="{y + 3}" width="{value * unit:.1f}" height="{step - 6}" fill="{_part(m)}">'
                f"<title>{html.escape(label)}: {value:,g}{' ' + html.escape(names[m]) if names else ''}</title></rect>"
            )
            at += value * unit
        parts.append(_label(at + 6, y + 14, f"{sum(values):,g}"))
    parts.append(_label((left + width - right) / 2, height - 4, x, "middle"))
    return f"<div>{_svg(parts, width, height, x)}{_key(names, _BARS) if names else ''}</div>"


def ranges(rows: Sequence[tuple[str, Sequence[float]]], x: str) -> str:
    """Return distributions on a logarithmic axis as SVG.

    Rows: (label, five quantiles from low to high). x: their name.
    """
    rows = [(label, values) for label, values in rows if values and min(values) > 0]
    if not rows:
        return '<p class="soft">nothing to draw yet</p>'
    left, right, width, step, top = 190, 30, 760, 20, 8
    low, high = min(v[0] for _, v in rows), max(v[-1] for _, v in rows)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    height = top + step * len(rows) + 42

    def across(value: float) -> float:
        return left + (math.log10(value) - first) / max(1, last - first) * (width - left - right)

    parts = []
    for power in range(first, last + 1):
        at = across(10.0**power)
        parts.append(_line(at, top, at, height - 38, "currentColor", 0.15))
        parts.append(_label(at, height - 22, f"{10.0**power:g}", "middle"))
    for n, (label, values) in enumerate(rows):
        y = top + n * step + step / 2
        parts.append(_label(left - 8, y + 4, label[:28], "end"))
        parts.append(_line(across(values[0]), y, across(values[4]), y, _LINES[1], 0.7, 1.5))
        parts.append(_line(across(values[1]), y, across(values[3]), y, _LINES[1], 0.45, 9))
        parts.append(f'<circle cx="{across(values[2]):.1f}" cy="{y:.1f}" r="3.5" fill="{_LINES[0]}"/>')
    parts.append(_label((left + width - right) / 2, height - 4, x, "middle"))
    return f"<div>{_svg(parts, width, height, x)}</div>"


def bubbles(groups: Sequence[tuple[str, Sequence[tuple[float, float, float]]]], x: str, y: str) -> str:
    """Return circles at (x, y) whose areas show a number, as SVG. groups: (label, ((x, y, number), …))."""
    points = [(label, *point) for label, of in groups for point in of]
    if not points:
        return '<p class="soft">nothing to draw yet</p>'
    width, height, left, right, top, bottom = 760, 460, 58, 20, 14, 42
    x_ticks, y_ticks = _ticks(0, max(p[1] for p in points)), _ticks(0, max(p[2] for p in points))
    most = max(p[3] for p in points)

    def across(value: float) -> float:
        return left + value / x_ticks[-1] * (width - left - right)

    def up(value: float) -> float:
        return height - bottom - value / y_ticks[-1] * (height - top - bottom)

    parts = [_line(left, up(t), width - right, up(t), "currentColor", 0.15) for t in y_ticks]
    parts += [_label(left - 6, up(t) + 4, f"{t:g}", "end") for t in y_ticks]
    parts += [_label(across(t), height - bottom + 16, f"{t:g}", "middle") for t in x_ticks]
    for label, at, high, number in sorted(points, key=lambda p: -p[3]):
        parts.append(
            f'<circle cx="{across(at):.1f}" cy="{up(high):.1f}" r="{3 + 17 * math.sqrt(number / most):.1f}" '
            f'fill="{_LINES[1]}" fill-opacity="0.35" stroke="{_LINES[1]}">'
            f"<title>{html.escape(label)}: {at:g} × {high:g}, {number:,g}</title></circle>"
        )
    parts.append(_label((left + width) / 2, height - 6, x, "middle"))
    middle = (top + height - bottom) / 2
    parts.append(f'<text transform="translate(13 {middle:.0f}) rotate(-90)" text-anchor="middle">{y}</text>')
    return f"<div>{_svg(parts, width, height, x)}</div>"


def scatter(x: Any, y: Any, across: str, up: str, levels: Mapping[str, float]) -> str:
    """Return points (x, y) with named horizontal lines, as SVG. across, up: labels of the axes. levels: name → y."""
    a, b = _finite(x, y)
    if not len(a):
        return '<p class="soft">nothing to draw yet</p>'
    finite = {name: level for name, level in levels.items() if math.isfinite(level)}
    width, height, left, right, top, bottom = 620, 340, 64, 130, 14, 42
    x_ticks = _ticks(float(a.min()), float(a.max()))
    y_ticks = _ticks(min(float(b.min()), *finite.values(), 0.0), max(float(b.max()), *finite.values(), 0.0))

    def place(value: float, ticks: Sequence[float], low: float, high: float) -> float:
        return low + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (high - low)

    def at_x(value: float) -> float:
        return place(value, x_ticks, left, width - right)

    def at_y(value: float) -> float:
        return place(value, y_ticks, height - bottom, top)

    parts = [_line(left, at_y(t), width - right, at_y(t), "currentColor", 0.15) for t in y_ticks]
    parts += [_label(left - 6, at_y(t) + 4, f"{t:g}", "end") for t in y_ticks]
    parts += [_label(at_x(t), height - bottom + 16, f"{t:g}", "middle") for t in x_ticks]
    parts += [
        f'<circle cx="{at_x(p):.1f}" cy="{at_y(q):.1f}" r="3" fill="{_LINES[1]}" fill-opacity="0.55"/>'
        for p, q in zip(a, b, strict=True)
    ]
    for name, level in finite.items():
        parts.append(_line(left, at_y(level), width - right, at_y(level), _LINES[0], 0.9, 1.4))
        parts.append(_label(width - right + 6, at_y(level) + 4, f"{name} {level:.3g}"))
    parts.append(_label((left + width - right) / 2, height - 6, across, "middle"))
    middle = (top + height - bottom) / 2
    parts.append(
        f'<text transform="translate(13 {middle:.0f}) rotate(-90)" text-anchor="middle">{html.escape(up)}</text>'
    )
    return f"<div>{_svg(parts, width, height, up)}</div>"


#: Fills of stacked bars, in the order of the parts.
_BARS = ("#0072b2", "#e69f00", "#009e73", "#999999")


def _part(number: int) -> str:
    return _BARS[number % len(_BARS)]


def _label(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _svg(parts: Iterable[str], width: float, height: float, name: str) -> str:
    label = html.escape(name)
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
