"""Small builds, written from records in milliseconds."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from us43d import registry
from us43d.harmonize import shards
from us43d.harmonize.built import DATASET, PROVENANCE
from us43d.harmonize.ids import Ids
from us43d.harmonize.pixels import perceptual_hash, pixel_hash
from us43d.harmonize.records import Annotation, Record, Written
from us43d.harmonize.taxonomy import mapping, taxonomy
from us43d.masks.components import components

SPLITS = {"a": "train", "b": "train", "c": "val", "d": "test", "e": None}


def _record(slug: str, id: int, key: str, number: int, folder: Path) -> Record:
    record = Record(
        id=id, key=key, group=f"patient {key}", official="test" if key == "d" else None, frame=None, spacing=(0.5, 1),
        slice=None, tags={"age": 40 + number}, remarks=(), split=SPLITS[key],
    )  # fmt: skip
    if record.split is None:
        record.drop = "blurred"
        return record
    image = np.random.default_rng([number, len(slug)]).integers(0, 256, (6, 8 + number), np.uint8)
    file = f"images/00000/{id}.png"
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / file), image)
    data = (folder / file).read_bytes()
    record.image = Written(
        file=file, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), kept=True, height=6, width=8 + number,
        pixel_hash=pixel_hash(image), phash=perceptual_hash(image),
    )  # fmt: skip
    mask = np.zeros(image.shape, bool)
    mask[1:3, 2:5] = mask[4:, 6:8] = key != "b"
    record.annotations = tuple(
        Annotation.of(piece, "breast_lesion", place, False) for place, piece in enumerate(components(mask))
    )
    return record


@pytest.fixture
def small() -> Callable[..., Path]:
    """A function (folder, alter, slug, **facts) that writes a build of four images and a dropped one, keys a to e.

    alter: changes the records, by key, before they are written. facts: entries of dataset.json.
    """

    def write(
        folder: Path,
        alter: Callable[[dict[str, Record]], object] | None = None,
        slug: str = "stu_hospital",
        **facts: Any,
    ) -> Path:
        recipe, ids, parts = registry.recipe(slug), Ids(slug), folder / "parts"
        parts.mkdir(parents=True)
        by_key = {key: _record(slug, ids.image(key), key, n, folder) for n, key in enumerate(SPLITS)}
        if alter:
            alter(by_key)
        category = mapping(recipe) | {"breast_lesion": mapping(registry.recipe("stu_hospital"))["breast_lesion"]}
        sizes = Counter(record.split for record in by_key.values() if record.split)
        files = shards.Shards(folder, sizes, recipe, category, "r1", parts)
        for record in by_key.values():
            files.add(record)
        files.finish()
        rows = shards.manifest(folder / shards.MANIFEST, by_key.values(), "image", parts)
        parts.rmdir()
        dataset = {
            "name": recipe.name, "slug": slug, "version": "r1", "schema": shards.SCHEMA, "profile": "us43d",
            "taxonomy": taxonomy().version, "partial": False, "specimen": True, "organ": recipe.organ,
            "kind": recipe.kind, "external_tier": recipe.external_tier, "labels": category, "counts": {"images": 5},
            "licence": {**asdict(recipe.licence.terms), "evidence": "page"}, "shares_with": [],
            "citations": [citation.model_dump(mode="json") for citation in recipe.citations],
            "splits": {"rule": "by hand", **files.table}, **facts,
        }  # fmt: skip
        dataset["digest"] = shards.build_digest(folder, dataset, rows)
        (folder / DATASET).write_text(json.dumps(dataset))
        (folder / PROVENANCE).write_text("{}")
        return folder

    return write
