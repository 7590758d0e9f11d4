"""kidneyUS as published: images in one archive, in the repository two sonographers' masks of low values, tables, copies."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

#: Name → patient. Two images of one patient, a copy, the patient whose number the copy has, a name of four parts.
NAMES = {
    "100_IM-0246-0030": "100", "100_IM-0246-0082": "100", "102_IM-0262-0009": "102", "400_IM-0262-0009": "102",
    "400_IM-0160-1024": "400", "11_IM-0288-0017-0002": "11", "20_IM-0861-0005": "20", "169_IM-0885-0035": "169",
    "30_IM-0111-0001": "30", "31_IM-0112-0001": "31", "32_IM-0113-0001": "32", "33_IM-0114-0001": "33",
    "34_IM-0115-0001": "34",
}  # fmt: skip
COLUMNS = (
    "filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
    "region_attributes",
)  # fmt: skip
COPY = ("102_IM-0262-0009", "400_IM-0262-0009")


def kidney(shape: tuple[int, int], rng: np.random.Generator) -> tuple[dict[str, Any], Any]:
    """The structures, and the label map of the regions."""
    capsule = blob(shape, rng, 0.32)
    y, x = np.argwhere(capsule).mean(axis=0)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    reach = np.hypot(rows - y, cols - x)
    regions = np.zeros(shape, np.uint8)
    for value, (low, high) in enumerate(((0, 6), (6, 12), (12, 18)), start=1):
        regions[capsule & (reach >= low) & (reach < high)] = value
    names = ("central_echo_complex", "medulla", "cortex")
    return {"capsule": capsule} | {name: regions == value for value, name in enumerate(names, start=1)}, regions


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    images = root / "kidneyUS_images_14_june_2022"
    repository = root / "kidneyUS-becfa9a897df8a4735105a9969432608a206402e"
    names = NAMES | {f"{n}_IM-0900-{n:04}": str(n) for n in range(1000, 1000 + len(NAMES) * (scale - 1))}
    tables: dict[int, list[list[object]]] = {1: [], 2: []}
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Filename", "Manufacturer", "Physical Delta X", "Physical Delta Y"])
    samples, copied = {}, None
    for at, (stem, patient) in enumerate(names.items()):
        shape = (96, 128)
        empty = stem == "30_IM-0111-0001"
        masks: dict[str, list[Any]] = {}
        for reader, prefix in ((1, ""), (2, "sonographer_2_")):
            shapes, regions = kidney(shape, rng)
            if empty or stem == "169_IM-0885-0035":
                shapes, regions = {name: np.zeros(shape, bool) for name in shapes}, np.zeros(shape, np.uint8)
                if not empty and reader == 1:
                    shapes["capsule"][40, 40] = True
            folder = repository / f"labels/reviewed_masks_{reader}"
            write_image(folder / f"capsule/{stem}_anon.png", shapes["capsule"].astype(np.uint8))
            write_image(folder / f"regions/{stem}_anon.png", regions)
            masks |= {f"{prefix}{name}": [mask] for name, mask in shapes.items() if mask.any()}
            attributes = {
                "Quality": "Poor" if empty else "Fair",
                "View": "Longitudinal" if at % 2 else "Transverse",
                "Comments": "Transplant, clear" if at % 3 == 0 else "",
            }
            outline = {"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 5, 2]}
            for n, name in enumerate(("Capsule", "Cortex") if not empty else ("",)):
                cells = (json.dumps(outline if name else {}), json.dumps({"Anatomy": name} if name else {}))
                tables[reader].append([f"{stem}_anon.png", 1234, json.dumps(attributes), 2, n, *cells])
        picture = speckle(shape, [mask for group in masks.values() for mask in group], rng)
        if stem == COPY[0]:
            copied = picture
        elif stem == COPY[1] and copied is not None:
            picture = copied
        write_image(images / f"{stem}_anon.png", np.stack([picture] * 3, axis=2) if at % 2 else picture)
        if stem != COPY[1]:
            sheet.append([stem, "GE", *((1, 1) if at % 4 == 1 else (0.02, 0.03))])
        samples[f"{stem}_anon.png"] = Drawn(
            masks,
            group=patient,
            tags={"quality": attributes["Quality"], "view": attributes["View"], "transplant": at % 3 == 0},
        )
    for reader, rows in tables.items():
        with (repository / f"labels/reviewed_labels_{reader}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    book.save(repository / "OpenKidneyUltrasoundDataSet_TransducerInfo.xlsx")
    (repository / "src/annotation_analysis").mkdir(parents=True)
    (repository / "src/annotation_analysis/create_masks.py").write_text("# code\n")
    for name in (
        "README.md", "index.md", "requirements.txt", "labels/README_labels", "annotation_guidelines.docx",
        "labels/Kidney Ultrasound Tracing Annotation Instructions (1).docx", "Datasheet for Data Set.pdf",
    ):  # fmt: skip
        (repository / name).write_text("Text.\n")
    write_image(repository / "kidneyUSlogo.png", np.zeros((24, 32), np.uint8))
    return Truth(samples)
