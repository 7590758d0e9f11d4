"""Structures found by name: what is counted as present, Dice of the union of annotations, AUROC of presence."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from us43d.coco import own
from us43d.errors import UsageError
from us43d.evaluate import structures
from us43d.harmonize.corpus import SPLITS, Corpus

LESION, CYST = 1, 2
#: Category → boxes (x, y, w, h), image by image.
IMAGES: list[dict[int, list[tuple[int, int, int, int]]]] = [
    {LESION: [(2, 2, 8, 8), (20, 20, 8, 8)]}, {LESION: [(5, 5, 10, 10)], CYST: [(25, 5, 6, 6)]},
    {CYST: [(8, 8, 12, 12)]}, {},
]  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    annotations: list[dict[str, Any]] = []
    for image, shown in enumerate(IMAGES):
        cv2.imwrite(str(tmp_path / f"{image}.png"), np.full((40, 40), 10 * image, np.uint8))
        for category, boxes in shown.items():
            for x, y, w, h in boxes:
                outline = [x, y, x + w, y, x + w, y + h, x, y + h]
                annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": category,
                                    "segmentation": [outline]})  # fmt: skip
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 40} for n in range(len(IMAGES))],
        "annotations": annotations,
        "categories": [{"id": LESION, "name": "lesion"}, {"id": CYST, "name": "cyst"}],
    }
    (tmp_path / "data.json").write_text(json.dumps(content))
    made = own.read(tmp_path / "data.json", tmp_path / "corpus")
    made.images = np.array(made.images)
    made.images["split"] = SPLITS.index("test")
    return made


class Named:
    """Knows lesions: finds the first piece of each, and is surer of an image with one, but for the last image."""

    def __init__(self, corpus: Corpus, known: dict[int, str]) -> None:
        self.corpus, self.structures, self.image = corpus, known, -1

    def set_image(self, pixels: np.ndarray) -> None:
        self.image = next(n for n in range(len(self.corpus)) if (self.corpus.picture(n) == pixels).all())

    def predict(self, structure: int) -> SimpleNamespace:
        rows = [n for n in self.corpus.of(self.image) if self.corpus.annotations["category"][n] == structure]
        mask = self.corpus.mask(rows[0]) if rows else np.zeros((40, 40), bool)
        return SimpleNamespace(mask=mask, presence=[0.9, 0.6, 0.2, 0.7][self.image])


def test_every_image_counts_and_annotations_are_united(corpus: Corpus) -> None:
    done: list[tuple[int, int | None]] = []
    model: Any = Named(corpus, {LESION: "lesion", 99: "not annotated here"})
    table = structures.evaluate(model, corpus, progress=lambda now, of: done.append((now, of)))
    assert done == [(n, 4) for n in (1, 2, 3, 4)]
    assert set(table["structure"]) == {"lesion"}
    assert table["present"].tolist() == [True, True, False, False]
    pieces = [int(corpus.annotations["area"][n]) for n in corpus.of(0)]
    assert table["dice"][0] == pytest.approx(2 * pieces[0] / (pieces[0] + sum(pieces)))
    assert table["dice"][1] == 1
    assert table["dice"][2:].isna().all()
    part = [structures.evaluate(model, corpus, limit=2, seed=seed)["key"].tolist() for seed in range(8)]
    assert {len(keys) for keys in part} == {2}
    assert len({tuple(keys) for keys in part}) > 1
    (row,) = structures.summary(table)
    assert (row["present"], row["absent"]) == (2, 2)
    assert row["auroc"] == pytest.approx(roc_auc_score(table["present"], table["presence"]))


def test_what_cannot_be_evaluated_is_refused(corpus: Corpus) -> None:
    nothing: Any = Named(corpus, {})
    with pytest.raises(UsageError, match="not trained to find structures by name"):
        structures.evaluate(nothing, corpus)
    foreign: Any = Named(corpus, {99: "else"})
    with pytest.raises(UsageError, match="No image of the split 'test'"):
        structures.evaluate(foreign, corpus)
