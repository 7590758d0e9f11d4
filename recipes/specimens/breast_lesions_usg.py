"""BrEaST as TCIA gives it: a flat folder, masks named tumor and otherN, an alpha channel here and there, a workbook."""

from pathlib import Path

import numpy as np
import openpyxl

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

_COLUMNS = (
    "CaseID", "Image_filename", "Mask_tumor_filename", "Mask_other_filename", "Pixel_size", "Age", "BIRADS", "Diagnosis",
    "Classification",
)  # fmt: skip


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    folder = root / "BrEaST-Lesions_USG-images_and_masks"
    samples = {}
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.title = "BrEaST-Lesions-USG clinical dat"
    sheet.append(_COLUMNS)
    for n in range(1, 12 * scale + 1):
        stem, shape = f"case{n:03}", (int(rng.integers(150, 180)), int(rng.integers(200, 240)))
        normal, more = n == 4, n % 5 == 0
        tumour = blob(shape, rng, cell=(0, 0, 0.6, 1) if more else (0, 0, 1, 1))
        others = [blob(shape, rng, cell=(0.62, y, 1, y + 0.45)) for y in (0.0, 0.5)] if more else []
        structures = {} if normal else {"tumor": [tumour]} | ({"other": others} if more else {})
        picture = np.stack([speckle(shape, [] if normal else [tumour, *others], rng)] * 3, axis=2)
        if n == 3:  # some files carry an alpha channel; constant, so its place in the order of channels does not matter
            picture = np.concatenate([np.full((*shape, 1), 255, np.uint8), picture], axis=2)
        write_image(folder / f"{stem}.png", picture)
        if not normal:
            write_image(folder / f"{stem}_tumor.png", tumour.astype(np.uint8) * 255)
        for k, other in enumerate(others, start=1):
            write_image(folder / f"{stem}_other{k}.png", other.astype(np.uint8) * 255)
        kind = "normal" if normal else ("benign", "malignant")[n % 2]
        masks = "&".join(f"{stem}_other{k}.png" for k in range(1, len(others) + 1)) or None
        size = None if n == 7 else 0.0071
        sheet.append([n, f"{stem}.png", None if normal else f"{stem}_tumor.png", masks, size, 50, "4a", "cyst", kind])
        key = f"{folder.name}/{stem}.png"
        samples[key] = Drawn(
            structures, group=stem, tags={"diagnosis": kind, "birads": "4a", "age": "50", "finding": "cyst"}
        )
    book.save(root / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx")
    return Truth(samples)
