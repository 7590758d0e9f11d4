"""What a benchmark consists of: sources, test groups, prompts, protocols, corruptions; one JSON file under manifests/.

A definition never changes: a change is a new version. Its digest, the digest of every source's build and the digest of
the prompts are part of each result, so that results of several labs are merged only where all three agree.
"""

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from us43d.bench.corruptions import CORRUPTIONS
from us43d.errors import UnknownName, UsageError, listed
from us43d.evaluate.protocols import Start
from us43d.harmonize.shards import canonical_json

__all__ = ["Definition", "digest_of", "names", "read"]


class Definition(BaseModel):
    """core: source → sha256 of its pinned split, None where nothing is pinned. external: sources that no model may be
    trained on; all their images are test images. data: "specimen" for synthetic sample datasets. failure: Dice of a box
    prompt below which an instance is listed as a failure. corrupted_images: how many images corruptions are tried on,
    chosen by their ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int = Field(ge=1)
    data: Literal["published", "specimen"]
    about: str
    core: dict[str, str | None]
    external: tuple[str, ...] = ()
    seed: int = Field(default=0, ge=0)
    prompts: tuple[Start, ...] = ("box", "centre", "random")
    clicks: tuple[int, ...] = (0, 1, 3, 5, 7)
    refine: int = Field(default=1, ge=0, le=1)
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 2, 3)
    corrupted_images: int = Field(default=200, ge=1)
    failure: float = Field(default=0.5, gt=0, lt=1)

    @property
    def label(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def digest(self) -> str:
        return digest_of(self.model_dump(mode="json"))


def digest_of(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON. Raises ValueError for NaN."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def names() -> list[str]:
    """The definitions that come with us43d, such as us43d-1."""
    folder = resources.files("us43d.manifests").joinpath("bench")
    return sorted(item.name.removesuffix(".json") for item in folder.iterdir() if item.name.endswith(".json"))


def read(which: str) -> Definition:
    """A definition by its name, or of a JSON file. Raises UnknownName, UsageError."""
    if which in names():
        text = resources.files("us43d.manifests").joinpath("bench", f"{which}.json").read_text("utf-8")
    elif Path(which).is_file():
        text = Path(which).read_text("utf-8")
    else:
        raise UnknownName(f"Unknown benchmark {which!r}. Known: {listed(names())}.", next="us43d bench us43d-1 --help")
    try:
        definition = Definition.model_validate_json(text)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}" for fault in error.errors())
        raise UsageError(f"{which} is not a valid benchmark definition: {listed(faults, 3)}.") from error
    _check(definition, which)
    return definition


def _check(definition: Definition, which: str) -> None:
    if unknown := sorted(set(definition.corruptions) - set(CORRUPTIONS)):
        raise UsageError(f"{which} names unknown corruptions: {listed(unknown)}. Known: {listed(CORRUPTIONS)}.")
    if not definition.clicks or min(definition.clicks) != 0 or not definition.prompts:
        raise UsageError(f"{which} needs at least one prompt, and numbers of clicks that begin with 0.")
    if twice := sorted(set(definition.core) & set(definition.external)):
        raise UsageError(f"{which} names {listed(twice)} both as core and as external.")
    if any(not 1 <= severity <= 3 for severity in definition.severities):
        raise UsageError(f"{which} has severities other than 1, 2 and 3.")
