"""Export weights as a complete Hugging Face folder: model, preprocessing, model card, licence, references."""

import json
from pathlib import Path
from typing import Any

from us43d import atomic
from us43d.licences import LICENCES
from us43d.model.config import MEAN, STD
from us43d.model.credits import CARD, carried
from us43d.model.published import PUBLISHED
from us43d.model.weights import PREPROCESSOR, Loaded, export

__all__ = ["export_huggingface", "preprocessor"]


def export_huggingface(loaded: Loaded, path: Path, source: Path, public: str | None = None) -> tuple[str, ...]:
    """Write a folder that `SamModel.from_pretrained` and `SamProcessor.from_pretrained` read.

    Args:
        loaded: The weights.
        path: Destination folder; created only when all files are complete.
        source: File or folder the weights were loaded from; its model card, licence and references are copied.
        public: Name of the public weights, if these are public weights.

    Returns:
        Remarks for the user.

    Raises:
        UsageError: The model does not have SAM's architecture.
        StorageError: The folder cannot be written.
    """
    public = public or loaded.meta.get("public")
    with atomic.new_folder(path) as temporary:
        notes = export(loaded, temporary, "huggingface")
        licence, copied = carried(loaded, source, temporary, public)
        (temporary / PREPROCESSOR).write_text(json.dumps(preprocessor(loaded), indent=1, sort_keys=True), "utf-8")
        if public in PUBLISHED and "references.bib" not in copied:
            (temporary / "references.bib").write_text(PUBLISHED[public].reference, "utf-8")
        if not any(name.startswith("LICENSE") for name in copied):
            (temporary / "LICENSE").write_text(_notice(licence, public), "utf-8")
        card = _card(loaded, path.name, temporary, licence, public, notes)
        (temporary / "README.md").write_text(card, "utf-8")
    return notes


def preprocessor(loaded: Loaded) -> dict[str, Any]:
    """Build the content of preprocessor_config.json; its key "us43d" records how images are resized for the weights."""
    side, low = loaded.config.image_size, loaded.config.mask_size
    return {
        "image_processor_type": "SamImageProcessor", "processor_class": "SamProcessor", "do_convert_rgb": True,
        "do_resize": True, "size": {"longest_edge": side}, "resample": 2, "do_rescale": True, "do_normalize": True,
        "rescale_factor": 1 / 255, "image_mean": [value / 255 for value in MEAN],
        "image_std": [value / 255 for value in STD],
        "do_pad": True, "pad_size": {"height": side, "width": side}, "mask_size": {"longest_edge": low},
        "mask_pad_size": {"height": low, "width": low}, "us43d": {"preprocessing": loaded.preprocessing},
    }  # fmt: skip


def _notice(licence: str, public: str | None) -> str:
    """Write a licence notice for weights that came without a licence file."""
    terms = LICENCES[PUBLISHED[public].licence] if public in PUBLISHED else None
    lines = [f"Licence of these weights: {licence}."]
    if terms:
        lines += [f"{terms.title}, text: {terms.url}", f"Published by others: {PUBLISHED[str(public)].page}"]
    return "\n".join(lines) + "\n"


def _licence_id(loaded: Loaded, public: str | None) -> str:
    """Return the licence's id on Hugging Face; "other" for data under several licences."""
    if public in PUBLISHED:
        return PUBLISHED[public].licence.lower()
    titles = {terms.title: terms.id.lower() for terms in LICENCES.values() if terms.url}
    record = loaded.meta.get("licences")
    used = list(record["by_licence"]) if isinstance(record, dict) and isinstance(record.get("by_licence"), dict) else []
    if len(used) != 1 or loaded.meta.get("init"):  # the initial weights have their own licence
        return "other"
    return titles.get(used[0], "other")


def _card(loaded: Loaded, name: str, folder: Path, licence: str, public: str | None, notes: tuple[str, ...]) -> str:
    side, own = loaded.config.image_size, loaded.preprocessing == "ultrasam"
    header = [
        "---", "library_name: transformers", "pipeline_tag: mask-generation", f"license: {_licence_id(loaded, public)}",
        "tags:", *(f"- {tag}" for tag in ("sam", "ultrasound", "medical-imaging", "segmentation", "us43d")), "---",
    ]  # fmt: skip
    resized = (
        f"The weights were trained on images resized to a long side of {side}, the other side rounded down, with "
        "bilinear interpolation without antialiasing. SamProcessor antialiases and rounds; the code above resizes as "
        "in training, and SamProcessor leaves an image of that size as it is."
        if own
        else f"SamProcessor's, which is SAM's own: long side {side}, the other side rounded, antialiased."
    )
    before = (
        f"""rows, columns = pixels.shape[:2]
scale = {side} / max(rows, columns)
shown = cv2.resize(pixels, (max(1, int(columns * scale)), max(1, int(rows * scale))))
box = (np.tile([shown.shape[1] / columns, shown.shape[0] / rows], 2) * box).tolist()"""
        if own
        else "shown = pixels"
    )
    code = f"""import cv2, numpy as np, torch
from transformers import SamModel, SamProcessor
model, processor = SamModel.from_pretrained("{name}"), SamProcessor.from_pretrained("{name}")
pixels, box = cv2.imread("scan.png")[:, :, ::-1].copy(), [40, 30, 90, 80]
{before}
inputs = processor(shown, input_boxes=[[box]], return_tensors="pt")
with torch.inference_mode():
    found = model(**inputs)
sizes = [pixels.shape[:2]], inputs["reshaped_input_sizes"]
masks = processor.image_processor.post_process_masks(found.pred_masks, *sizes)[0][0].numpy()
mask = masks[found.iou_scores[0, 0].argmax()]
"""
    title = PUBLISHED[public].title if public in PUBLISHED else name
    lines = [
        "\n".join(header),
        f"# {title}",
        "Promptable segmentation: a box or points to a mask. For research; not a medical device.",
        f"Licence: {licence}.",
        f"```python\n{code}```",
        "## Preprocessing",
        f"{resized} Mean {list(MEAN)}, deviation {list(STD)} of 0–255; padded with zeros below and to the right.",
    ]
    if notes:
        lines += ["## Conversion", "\n".join(f"- {note}" for note in notes)]
    if (folder / "references.bib").is_file():
        lines += ["## Citation", "references.bib has the publications to cite."]
    if (folder / CARD).is_file():
        lines += ["## Card of the weights", f"[{CARD}]({CARD}) came with the weights."]
    return "\n\n".join(lines) + "\n"
