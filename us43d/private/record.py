"""The record of a private source: private/<slug>.json of a home, its facts and how its folder is read."""

import json
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from us43d import atomic
from us43d.contract import Facts, Split
from us43d.errors import RecipeError
from us43d.paths import Home
from us43d.patients import patient_in

__all__ = ["Annotations", "Coco", "NnUnet", "Reading", "Record", "every", "group_of", "write"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Annotations(_Strict):
    """One COCO file. images: folder its file names begin in, "" or ending in "/". split: that its name states."""

    file: str
    images: str
    split: Split | None = None


class _Reading(_Strict):
    """What both readers need.

    group: regular expression that finds the patient in an image's path; None where nothing states it. labels: name in
    the folder → label of the source; names that are not listed are excluded on request, and counted.
    """

    group: str | None = None
    labels: Mapping[str, str]


class Coco(_Reading):
    """Reading of COCO files. stated: the files state patients (`group`, `patient_id`), which apply without `group`."""

    form: Literal["coco"] = "coco"
    files: tuple[Annotations, ...]
    stated: bool = False


class NnUnet(_Reading):
    """Reading of an nnU-Net dataset. ending: of its files. values: name of a label → values of its pixels."""

    form: Literal["nnunet"] = "nnunet"
    ending: str
    channels: int = 1
    values: Mapping[str, tuple[int, ...]]


Reading: TypeAlias = Annotated[Coco | NnUnet, Field(discriminator="form")]


class Record(_Strict):
    """A private source. facts: as those of a packaged one. reading: what its reader needs."""

    schema_version: Literal[1] = 1
    facts: Facts
    reading: Reading


def every(home: Home) -> dict[str, Record]:
    """Return slug → record of all private sources of a home.

    Raises:
        RecipeError: A record is damaged or was written by another version.
    """
    return {path.stem: _read(home, path.stem) for path in sorted((home.root / "private").glob("[!.]*.json"))}


def _read(home: Home, slug: str) -> Record:
    path = home.private(slug)
    try:
        record = TypeAdapter(Record).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fault = f"{error}".splitlines()[0]
        raise RecipeError(
            f"The record of a private source, {path}, cannot be used: {fault}.",
            next=f"remove {path}, then import the folder again: us43d import FOLDER",
        ) from error
    if record.facts.slug != slug or not record.facts.private:
        raise RecipeError(
            f"{path} is the record of {record.facts.slug!r}, not of a private source {slug!r}.", next=f"remove {path}"
        )
    return record


def write(home: Home, record: Record) -> None:
    """Write a record. Raises StorageError."""
    path = home.private(record.facts.slug)
    text = json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
    atomic.write_files(path.parent, {path.name: text}, "No record was written.")


def group_of(pattern: str | None, path: str) -> str | None:
    """Return the patient in a path; None if absent. Raises UsageError where the pattern is not a regular expression."""
    return patient_in(path, pattern, "--group", next="us43d import --help")
