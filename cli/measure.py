"""The verb that measures masks in mm."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from us43d import atomic
from us43d.errors import ImageError, UsageError, counted
from us43d.spelling import normalised

from .models import CorpusName, release
from .output import Session
from .tables import Columns, Table
from .verb import verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from us43d.harmonize.corpus import Corpus

Kind: TypeAlias = Literal["lesion", "head", "outline", "wall", "ventricle"]


@verb(
    "measure",
    panel="Model",
    examples=(
        "us43d measure mask.png --spacing 0.12",
        "us43d measure masks/*.png --spacing 0.08 --as head --json",
        "us43d measure mask.nii.gz",
        "us43d measure scans-labels/labels.json --out sizes",
        "us43d measure 000_HC_Annotation.png --spacing 0.0691 --as outline",
        "us43d measure diastole.png systole.png --spacing 0.3 --as ventricle",
        "us43d measure --on HC18 --out heads",
        "us43d measure --on HC18 --as outline --out heads",
    ),
)
def measure(
    session: Session,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Masks: images, or DICOM, NIfTI, MetaImage or NRRD files of one frame; of --as ventricle "
            "end-diastole, then end-systole. Or a COCO file of us43d label or predict: all its masks.",
            show_default=False,
        ),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            help="mm per pixel, in x and y if they differ. Default: the file's own.",
            metavar="MM[,MM]",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            "--as",
            help="lesion: area and diameters. head: fetal head, filled. outline: fetal head drawn as a line. wall: "
            "intima-media. ventricle: volume, and of two files the ejection fraction.",
        ),
    ] = "lesion",
    on: Annotated[
        list[str] | None,
        typer.Option("--on", help="Measure the reference masks of these sources instead of files.", metavar="NAME"),
    ] = None,
    corpus: CorpusName = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output folder; of a COCO file measurements.csv is written to it. Default with --on: measurements.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure head circumference, diameters, areas, wall thickness and ejection fraction of masks, in mm.

    With --on, reference masks are compared with the values that the source publishes in its own table; with --as
    outline also the centre lines of the outlines from which its masks are filled, which are read from the raw files.
    """
    if bool(files) == bool(on):
        raise UsageError("Give either mask files or --on with sources.", next="us43d measure --help")
    coco = files[0] if files and files[0].suffix.lower() == ".json" else None
    if coco and len(files or []) > 1:
        raise UsageError("Give one COCO file, or mask files.", next=shlex.join(["us43d", "measure", str(coco)]))
    if files and out and not coco:
        raise UsageError("--out is for --on and COCO files: measurements of mask files are printed, as JSON by --json.")
    if on:
        folder = out or Path("measurements")
        atomic.require_free(folder, ["outlines.csv"] if kind == "outline" else ["page.html", "measurements.csv"])
        if kind == "outline":
            _outlines(session, on, folder)
            return
        from us43d.harmonize.corpus import Corpus

        _references(session, Corpus.open(release(session, corpus), session.home.root), on, folder)
        return
    size = _spacing(spacing)
    if coco:
        _annotations(session, kind, coco, size, out)
        return
    masks = [_mask(session, kind, file, size) for file in files or []]
    rows: list[tuple[str, str, float, str]] = []
    if kind == "ventricle":
        rows = _ventricle(files or [], masks)
    else:
        for file, (mask, pixel) in zip(files or [], masks, strict=True):
            rows += [(str(file), what, value, unit) for what, value, unit in _values(kind, mask, pixel)]
    _warn_unmeasured(session, [value for *_, value, _ in rows])
    data = [{"file": f, "quantity": q, "value": v, "unit": u} for f, q, v, u in rows]
    heads: Columns = (("file", "left"), ("quantity", "left"), ("value", "right"), ("unit", "left"))
    spacings = {pixel for _, pixel in masks}
    session.answer(
        {"spacing_mm": spacings.pop() if len(spacings) == 1 else None, "measurements": data}, Table(heads, rows)
    )


def _annotations(
    session: Session, kind: Kind, file: Path, spacing: tuple[float, float] | None, out: Path | None
) -> None:
    """Measure every mask of a COCO file with the spacing of its image; with `out`, write a table.

    Raises:
        TrainError: If the file has faults, all of which are listed.
        UsageError: If the spacing of no image with a mask is known, or no mask was found.
    """
    import pandas as pd

    from us43d.coco import schema, segmentation
    from us43d.masks import rle

    if out:
        atomic.require_free(out, ["measurements.csv"])
    content, report = schema.load(file)
    images = {image.id: image for image in content.images}
    names = {category.id: category.name for category in content.categories}
    unknown = 0
    rows: list[tuple[str, int | None, str, str, str, float, str]] = []
    for one in content.annotations:
        image = images[one.image_id]
        try:
            encoded, reason = segmentation.encoded(one.segmentation, image.height, image.width)
        except ValueError as error:
            report.fault(one.where, "segmentation", *error.args)
            continue
        pixel = spacing or image.spacing
        if encoded is None:
            report.leave_out(reason)
        elif pixel is None:
            unknown += 1
        else:
            mask, name = rle.decode(encoded.counts, image.height, image.width), names[one.category_id]
            frame = image.frame if image.frame is not None or image.us43d is None else image.us43d.frame
            values = _volumes(mask, pixel) if kind == "ventricle" else _values(kind, mask, pixel, name)
            rows += [(image.file_name, frame, name, one.id, *value) for value in values]
    report.raise_faults()
    if not rows:
        raise UsageError(
            f"Lengths in mm need the pixel spacing, which {file} does not state."
            if unknown
            else f"{file} has no annotation with a mask.",
            next=shlex.join(["us43d", "measure", str(file), "--spacing", "0.1"]) + "   (your pixel spacing in mm)"
            if unknown
            else "us43d measure --help",
        )
    if unknown:
        session.warn(f"Not measured: {counted(unknown, 'mask')} of images without spacing; --spacing applies to all.")
    if report.left_out:
        session.warn(f"Not measured: annotations {report.reasons}.")
    _warn_unmeasured(session, [value for *_, value, _ in rows])
    heads = ("file", "frame", "structure", "annotation", "quantity", "value", "unit")
    if out:
        text = pd.DataFrame(rows, columns=heads).astype({"frame": "Int64"}).to_csv(index=False, lineterminator="\n")
        atomic.write_results(out, {"measurements.csv": text}, "The table that was there is unchanged.")
        session.say(f"{out / 'measurements.csv'}: {counted(len(rows), 'measurement')}")
    columns: Columns = tuple((head, "right" if head in ("frame", "value") else "left") for head in heads)
    data = {"measurements": [dict(zip(heads, row, strict=True)) for row in rows]}
    session.answer(data, *(() if out else (Table(columns, rows),)))


def _warn_unmeasured(session: Session, values: list[float]) -> None:
    if number := sum(map(math.isnan, values)):
        session.warn(f"{counted(number, 'quantity', 'quantities')} of masks too small to measure: shown as nan.")


def _spacing(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < value < 1000 for value in values):
        raise UsageError(f"Invalid --spacing {text!r}. Use mm per pixel such as 0.12, or 0.12,0.1 for x and y.")
    return values[0], values[-1]


def _mask(
    session: Session, kind: Kind, file: Path, spacing: tuple[float, float] | None
) -> "tuple[NDArray[np.bool_], tuple[float, float]]":
    """Read a mask file as (h, w) bool, upright, and its spacing; warn of what looks wrong in it.

    Raises:
        RawDataError: If the file cannot be read.
        ImageError: If it has several frames, or cannot be read.
        UsageError: If the mask is empty, or its spacing is unknown.
    """
    import numpy as np

    from us43d.coco.drawn import MaskFile
    from us43d.contract import Remarked
    from us43d.masks import components

    masks = MaskFile(file)
    if masks.count != 1:
        raise ImageError(f"{file} has {masks.count or 'several'} frames; a mask has one.")
    if (pixel := spacing or masks.spacing) is None:
        raise UsageError(
            f"Lengths in mm need the pixel spacing, which {file} does not state.",
            next="the same with --spacing 0.1   (your pixel spacing in mm)",
        )
    if spacing and masks.spacing and not np.allclose(spacing, masks.spacing, rtol=0.01):
        session.warn(f"{file} states {masks.spacing[0]:g} × {masks.spacing[1]:g} mm per pixel; --spacing is used.")
    if not spacing and masks.spacing == (1, 1):
        session.warn(
            f"{file} states 1 mm per pixel, as programs write that do not know it. Check it, or give --spacing."
        )
    (plane,) = masks.planes()
    read, _ = plane.foreground()
    remarks = masks.remarks if plane.pixels is not None else ()  # of an image: that it is turned
    if isinstance(read, Remarked):
        remarks, read = (*remarks, *read.remarks), np.asarray(read.array, bool)
    for remark in remarks:
        session.warn(f"{file}: {remark}")
    mask = plane.upright(read)
    if not mask.any():
        raise UsageError(f"The mask {file} is empty.")
    if components.covers_corners(mask):
        session.warn(f"{file} covers all four corners of the image. Black is background: it may be inverted.")
    elif kind != "outline" and (pieces := len(components.components(mask))) > 1:
        session.warn(f"{file} has {pieces} separate areas, which are measured as one object.")
    return mask, pixel


def _values(
    kind: Kind, mask: "NDArray[np.bool_]", spacing: tuple[float, float], structure: str = "lesion"
) -> list[tuple[str, float, str]]:
    from us43d.evaluate import measure as geometry
    from us43d.evaluate import readouts

    if kind == "outline":
        head = geometry.head_of_outline(mask, spacing)
        values = {"hc": head.hc, "bpd": head.bpd}
    else:
        structure = {"head": "fetal_head", "wall": "carotid_intima_media"}.get(kind, structure)
        values = readouts.sizes(structure, mask, spacing)
    return [(readouts.QUANTITIES[name][0], value, readouts.QUANTITIES[name][1]) for name, value in values.items()]


def _ventricle(
    files: list[Path], masks: "list[tuple[NDArray[np.bool_], tuple[float, float]]]"
) -> list[tuple[str, str, float, str]]:
    from us43d.evaluate import measure as geometry

    if len(files) > 2:
        raise UsageError(f"--as ventricle takes end-diastole and end-systole, not {len(files)} files.")
    volumes = [_volumes(mask, spacing) for mask, spacing in masks]
    rows = [(str(file), *value) for file, values in zip(files, volumes, strict=True) for value in values]
    if len(files) == 2:
        names = " → ".join(map(str, files))
        rows += [(names, what.replace("volume", "ejection fraction"), geometry.ejection_fraction(end, start), "%")
                 for (what, end, unit), (_, start, _) in zip(*volumes, strict=True) if unit == "ml"]  # fmt: skip
    return rows


def _volumes(mask: "NDArray[np.bool_]", spacing: tuple[float, float]) -> list[tuple[str, float, str]]:
    """Measure a ventricle; the mask is not empty."""
    from us43d.evaluate import measure as geometry

    view = geometry.chamber(mask, spacing)
    assert view is not None
    return [
        ("length of the long axis", view.length, "mm"),
        ("volume, area-length", geometry.volume_area_length(view), "ml"),
        ("volume, Simpson, one view", geometry.volume_discs(view), "ml"),
    ]


def _references(session: Session, corpus: "Corpus", names: list[str], out: Path) -> None:
    """Compare the measurements of reference masks with the sources' tables; write a page and a table."""
    from us43d import report
    from us43d.evaluate import readouts
    from us43d.evaluate.protocols import references
    from us43d.evaluate.results import plain

    rows = references(corpus, names)
    measurements = readouts.measurements(rows, corpus)
    entries = [e for e in readouts.agreements(measurements) if e["reference"] == "table"]
    heads, cells = readouts.table(entries)
    # Constant here: measurements of reference masks have neither prompt nor weights.
    hidden = {heads.index(name) for name in ("protocol", "prompt", "weights", "reference")}
    heads, cells = (
        [h for n, h in enumerate(heads) if n not in hidden],
        [[value for n, value in enumerate(row) if n not in hidden] for row in cells],
    )
    note = (
        f"Measurements of the reference masks of {', '.join(names)} minus the value in the source's own table. "
        f"{len(measurements):,} measurements, of which {int(measurements['table'].notna().sum()):,} have such a value."
    )
    page = report.page("Measurements", [("", f"<p>{note}</p>"), ("Agreement", report.table(heads, cells)),
                                        *readouts.plots(measurements, "reference")])  # fmt: skip
    files = {"page.html": page, "measurements.csv": measurements.drop(columns=_SAME).to_csv(index=False)}
    atomic.write_results(out, files, "The page that was there is unchanged.")
    columns: Columns = [(head, "left" if head in ("quantity", "source", "structure") else "right") for head in heads]
    data: dict[str, Any] = {"folder": out, "agreements": [plain(entry) for entry in entries]}
    session.answer(data, note, Table(columns, cells))
    session.say(f"{out}: page.html with Bland-Altman plots, measurements.csv")
    if any(normalised(name) == "hc18" for name in names):
        session.say(
            "HC18: builds hold filled outlines, which overstate the circumference by 0.67 % on average. Measure the "
            "centre lines of the outlines with: us43d measure --on HC18 --as outline"
        )


#: Columns of the table of centre lines.
_LINES = ("source", "key", "hc_mm", "bpd_mm", "ofd_mm", "x_mm", "y_mm", "angle_degrees", "published_hc_mm")


def _outlines(session: Session, names: list[str], out: Path) -> None:
    """Measure the outlines, along their centre lines, from which the masks of sources are filled; write a table."""
    import csv
    import io

    import numpy as np

    from us43d.evaluate import measure as geometry

    rows: list[tuple[Any, ...]] = []
    for source, key, outline, spacing, published in _drawn(session, names):
        line = geometry.centre_line(outline, spacing)
        hc = geometry.perimeter(line)
        rows.append((source, key, hc, line.short, line.long, line.x, line.y, line.angle, published))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_LINES)
    writer.writerows((*row[:2], *(f"{value:.3f}" for value in row[2:])) for row in rows)
    atomic.write_results(out, {"outlines.csv": text.getvalue()}, "The table that was there is unchanged.")
    gaps = np.array([100 * (row[2] / row[-1] - 1) for row in rows])
    known = gaps[np.isfinite(gaps)]
    mean, largest = (float(known.mean()), float(np.abs(known).max())) if len(known) else (None, None)
    data = {"file": out / "outlines.csv", "outlines": len(rows), "compared": len(known),
            "mean_difference_percent": mean, "largest_difference_percent": largest}  # fmt: skip
    compared = f"{len(rows):,} outlines of {', '.join(names)}, {len(known):,} of them with a circumference to compare"
    if mean is not None:
        compared += f": that of the centre line differs by {mean:+.3f} % on average, by at most {largest:.3f} %"
    session.answer(data, f"{compared}.")
    session.say(f"{out / 'outlines.csv'}: circumference, axes, centre and angle by key")


def _drawn(
    session: Session, names: list[str]
) -> "Iterator[tuple[str, str, NDArray[np.bool_], tuple[float, float], float]]":
    """Yield (source, key, outline, spacing, circumference of the table) of sources whose masks are filled outlines."""
    import numpy as np

    from us43d import masks, registry
    from us43d.contract import Lazy, RawTree

    for name in names:
        recipe = registry.find(name, session.home)
        raw = session.home.raw(recipe.name)
        if not raw.is_dir():
            raise UsageError(
                f"The raw files of {recipe.name} are not in {session.home.root}.", next=f"us43d fetch {recipe.name}"
            )
        number = 0
        for sample in recipe.samples(RawTree(raw)):
            for mask in sample.masks.values():
                if isinstance(mask, Lazy) and mask.func is masks.ellipse and sample.spacing_mm:
                    number += 1
                    outline = mask.args[0].read({}, []) != 0
                    published = sample.tags.get("hc_mm", np.nan)
                    yield recipe.name, sample.key, outline, sample.spacing_mm, float(published)
        if not number:
            raise UsageError(
                f"The masks of {recipe.name} are not filled outlines.", next=f"us43d measure --on {recipe.name}"
            )


#: Columns of measurements that say nothing where the reference itself is measured.
_SAME = ["protocol", "prompt", "weights", "truth"]
