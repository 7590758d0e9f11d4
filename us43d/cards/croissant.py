"""A source as Croissant JSON-LD (MLCommons, format 1.0), for catalogues and crawlers."""

import hashlib
import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import quote

from us43d.bibliography import key
from us43d.contract import Facts, RawFile, Route
from us43d.errors import BuildError
from us43d.harmonize.built import Build

__all__ = ["croissant", "croissant_of_build"]

# The context the specification prescribes, in the terms used here and by its readers.
_CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
    "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet",
    "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
}  # fmt: skip


def croissant(recipe: Facts) -> dict[str, Any]:
    """Return the description. Only files with an address and a digest are listed, as the format requires both."""
    terms = recipe.licence.terms
    made: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": recipe.name,
        "description": f"{recipe.title}. {recipe.application[:1].upper()}{recipe.application[1:]}.",
        **({"url": recipe.homepage} if recipe.homepage else {}),
        "version": f"{recipe.revision}.0.0",
        "license": terms.url or terms.title,
        **({"citeAs": recipe.citations[0].bibtex.strip()} if recipe.citations else {}),
        "keywords": ["ultrasound", "segmentation", recipe.organ, *dict.fromkeys(recipe.labels.values())],
        "isAccessibleForFree": recipe.access in {"open", "login"},
        "distribution": [_file(route, file) for route in recipe.routes for file in route.files if _listed(file)],
    }
    if recipe.aliases:
        made["alternateName"] = list(recipe.aliases)
    if recipe.doi:
        made["identifier"] = f"https://doi.org/{recipe.doi}"
    years = [citation.year for citation in recipe.citations if citation.year]
    if years:
        made["datePublished"] = f"{min(years)}-01-01"
    made["citation"] = [key(citation.bibtex) for citation in recipe.citations]
    return made


#: Column of manifest.parquet → (type in Croissant, what it is).
_FIELDS = {
    "id": ("sc:Integer", "Id of the image, unique over all sources"),
    "key": ("sc:Text", "Name of the sample in its source"),
    "file": ("sc:Text", "Image file, relative to the build; missing if the sample was dropped"),
    "sha256": ("sc:Text", "Digest of the image file"),
    "group": ("sc:Text", "What must not be divided between splits"),
    "group_kind": ("sc:Text", "What a group is: patient, video, image …"),
    "split": ("sc:Text", "train, val, test or excluded; missing if the sample was dropped"),
    "official_split": ("sc:Text", "Split published by the source"),
    "height": ("sc:Integer", "Height in pixels"),
    "width": ("sc:Integer", "Width in pixels"),
    "annotations": ("sc:Integer", "Number of annotations"),
    "tags": ("sc:Text", "What the source states of the image, as JSON"),
    "drop": ("sc:Text", "Reason for which the sample was dropped"),
}


def croissant_of_build(recipe: Facts, build: Path) -> dict[str, Any]:
    """Describe a build: its manifest as a record set, its image and annotation files as file sets.

    The description belongs beside the build's manifest.parquet; its addresses are relative to it.

    Raises:
        BuildError: If `build` is not a build.
    """
    built = Build(build)
    dataset = built.facts
    try:
        digest = hashlib.sha256(built.manifest.read_bytes()).hexdigest()
    except OSError as error:
        raise BuildError(f"{built.manifest} is not readable: {error}.", next=f"us43d build {recipe.name}") from error
    source: dict[str, Any] = {"fileObject": {"@id": "manifest.parquet"}}
    fields = [
        {
            "@type": "cr:Field", "@id": f"samples/{name}", "name": name, "description": text, "dataType": kind,
            "source": source | {"extract": {"column": name}},
        }
        for name, (kind, text) in _FIELDS.items()
    ]  # fmt: skip
    made = croissant(recipe)
    # A build is described by its own files, not by the archives it was made from.
    made["distribution"] = [
        {
            "@type": "cr:FileObject", "@id": "manifest.parquet", "name": "manifest.parquet",
            "description": "One row per sample, dropped ones included", "contentUrl": "manifest.parquet",
            "encodingFormat": "application/x-parquet", "sha256": digest,
        },
        {
            "@type": "cr:FileSet", "@id": "images", "name": "images", "description": "Image files",
            "includes": "images/*/*", "encodingFormat": ["image/png", "image/jpeg"],
        },
        {
            "@type": "cr:FileSet", "@id": "annotations", "name": "annotations", "description": "COCO, by shard",
            "includes": "annotations/*.json", "encodingFormat": "application/json",
        },
    ]  # fmt: skip
    made["recordSet"] = [
        {"@type": "cr:RecordSet", "@id": "samples", "name": "samples", "key": {"@id": "samples/id"}, "field": fields}
    ]
    made["version"] = f"{dataset['revision']}.{dataset['schema']}.0"
    made["description"] += f" Harmonized by us43d, build {dataset['version']}, digest {dataset['digest']}."
    return made


def _listed(file: RawFile) -> bool:
    return file.url is not None and (file.sha256 or file.md5) is not None


def _file(route: Route, file: RawFile) -> dict[str, Any]:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    made: dict[str, Any] = {
        "@type": "cr:FileObject",
        "@id": quote(f"{route.kind}/{file.name}"),  # an @id is an IRI
        "name": file.name,
        "contentUrl": file.url,
        "encodingFormat": kind,
    }
    if file.size is not None:
        made["contentSize"] = f"{file.size} B"
    made |= {name: value for name in ("sha256", "md5") if (value := getattr(file, name))}
    return made
