"""Croissant of all sources and of a build, validated by mlcroissant."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from us43d import registry
from us43d.cards.croissant import croissant, croissant_of_build
from us43d.harmonize import shards

mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed: it validates these files")
pytestmark = pytest.mark.filterwarnings("ignore")


def validated(content: dict, file: Path):
    file.write_text(json.dumps(content), "utf-8")
    dataset = mlcroissant.Dataset(jsonld=str(file))
    assert not list(dataset.metadata.ctx.issues.errors)
    return dataset


def test_every_source_validates(tmp_path: Path) -> None:
    for recipe in registry.recipes():
        content = croissant(recipe)
        assert not [entry for entry in content["distribution"] if " " in entry["@id"]], recipe.name
        validated(content, tmp_path / f"{recipe.slug}.json")


@pytest.mark.parametrize(
    "slug", [slug if slug == "busi" else pytest.param(slug, marks=pytest.mark.slow) for slug in registry.slugs()]
)
def test_a_build_has_its_samples_as_records(built: Callable, slug: str, tmp_path: Path) -> None:
    _, (path,) = built(tmp_path, slug, receipt={"kind": "specimen"})
    copy = shutil.copytree(path, tmp_path / "copy")
    dataset = validated(croissant_of_build(registry.recipe(slug), path), copy / "croissant.json")
    records = list(dataset.records("samples"))
    rows = shards.read_manifest(path / shards.MANIFEST)
    assert rows
    assert [record["samples/id"] for record in records] == [row["id"] for row in rows]
    for name in ("key", "split", "group"):
        values = [record[f"samples/{name}"] for record in records]
        assert [value.decode() if isinstance(value, bytes) else value for value in values] == [
            row[name] for row in rows
        ]
