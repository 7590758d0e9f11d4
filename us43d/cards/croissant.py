"""A source as Croissant JSON-LD (MLCommons, format 1.0), for catalogues and crawlers."""

import mimetypes
from typing import Any
from urllib.parse import quote

from us43d.cards.bibliography import key
from us43d.contract import Facts, RawFile, Route

__all__ = ["croissant"]

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
    """The description. Only files with an address and a digest are listed, as the format requires both."""
    terms = recipe.licence.terms
    made: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": recipe.name,
        "description": f"{recipe.title}. {recipe.application[:1].upper()}{recipe.application[1:]}.",
        "url": recipe.homepage,
        "version": f"{recipe.revision}.0.0",
        "license": terms.url or terms.title,
        "citeAs": recipe.citations[0].bibtex.strip(),
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
