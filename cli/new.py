"""A verb for contributors: new, which writes what a new source needs into a checkout."""

import datetime
import difflib
import re
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from us43d import registry
from us43d.errors import StorageError, UnknownName, UsageError, listed

from .output import Session
from .verb import verb

RECIPE = Template('''"""$name: FILL IN what is in it, in one line."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawTree, Recipe, Route, Sample, lazy


def read(raw: RawTree) -> Iterator[Sample]:
    # FILL IN: how images and masks pair. This one reads images/<name>.png with masks/<name>.png, at any depth.
    tree = raw.at("images")
    for key in tree.glob("images/*.png"):
        name = key.rpartition("/")[2]
        mask, patient = lazy(masks.binary, tree.path(f"masks/{name}")), name.partition("_")[0]
        yield Sample(key=key, image=tree.path(key), masks={"$structure": mask}, group=patient)


RECIPE = Recipe(
    name="$name",
    slug="$slug",
    row=None,  # sources beyond the US-43d table have no row
    title="FILL IN: the published title",
    organ="$organ",
    application="FILL IN: what is segmented, and for what",
    media="image2d",
    homepage="https://example.org/fill-in",
    citations=(
        Citation(
            title="FILL IN: title of the article, else of the record",
            bibtex="""@misc{$slug,
  title={FILL IN}
}""",
        ),
    ),
    licence=Licence(id="UNSTATED", evidence="FILL IN: where the licence is stated, or that it is not."),
    access="request",
    access_checked=datetime.date($year, $month, $day),
    routes=(Route(kind="manual", url="https://example.org/fill-in", note="FILL IN: how a person gets the files."),),
    labels={"$structure": "$structure"},
    group_kind="patient",
    group_rule="FILL IN: what tells the patient; this skeleton takes the file name before its first underscore.",
    expect=Expect(),  # FILL IN: published counts; what nobody has published stays out
    ignore={},  # FILL IN: pattern of files that are not read, in lower case → why
    paper=PaperProfile(note="Not in the published collection: there is no conversion to follow."),
    sources=("FILL IN: where these facts were read",),
    confidence="FILL IN: what was read, what is inferred, what is unknown.",
    read=read,
)
''')

SPECIMEN = Template('''"""$name as published: FILL IN its names and oddities. It follows the facts, not the reader."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for n in range(12 * scale):
        name, shape = f"p{n // 2:03}_{n % 2}.png", (96, 128)
        mask = blob(shape, rng)
        write_image(root / "images" / name, speckle(shape, [mask], rng))
        write_image(root / "masks" / name, mask.astype(np.uint8) * 255)
        samples[f"images/{name}"] = Drawn({"$structure": [mask]}, group=f"p{n // 2:03}")
    return Truth(samples)
''')

TEST = Template('''"""$name: what the suite over all recipes (tests/conformance) does not ask."""

import re
from pathlib import Path

import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawTree
from us43d.errors import MissingRawFile

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("file", ["recipes/$slug.py", "recipes/specimens/$slug.py"])
def test_nothing_is_left_to_fill_in(file: str) -> None:
    left = [line for line in (ROOT / file).read_text().splitlines() if re.search("fill.in", line, re.IGNORECASE)]
    assert left == []


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    truth = registry.specimen("$slug")(tmp_path, np.random.default_rng(0))
    mask = next(iter(truth.samples)).replace("images/", "masks/")
    (tmp_path / mask).unlink()
    with pytest.raises(MissingRawFile, match=re.escape(mask)):
        list(registry.recipe("$slug").read(RawTree(tmp_path)))
''')

#: File of the checkout, by slug → what is written there.
FILES = {"recipes/{}.py": RECIPE, "recipes/specimens/{}.py": SPECIMEN, "tests/unit/recipes/test_{}.py": TEST}


@verb(
    "new",
    panel="Contributing",
    examples=(
        "us43d new LUMINOUS --structure muscle",
        "us43d new 4CH-Set --slug four_chamber_set --structure fetal_heart",
    ),
)
def new(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the source: letters, digits, _ . -", metavar="NAME")],
    structure: Annotated[str, typer.Option(help="What its masks outline (us43d taxonomy).", metavar="STRUCTURE")],
    slug: Annotated[
        str | None, typer.Option(help="Name of its modules; made from NAME if left out.", show_default=False)
    ] = None,
    checkout: Annotated[Path, typer.Option(help="The checkout to write into.", metavar="FOLDER")] = Path(),
) -> None:
    """Begin a new source: recipe, specimen and test to fill in (docs/adding-a-source.md). Overwrites nothing."""
    folder = checkout.absolute()
    if not (folder / "pyproject.toml").is_file() or not all((folder / f).parent.is_dir() for f in FILES):
        raise UsageError(
            f"{folder} is no checkout of us43d.", next=f"us43d new {name} --structure {structure} --checkout FOLDER"
        )
    module = _slug(name, slug)
    organ = _organ(structure)
    files = {folder / path.format(module): template for path, template in FILES.items()}
    if there := [path for path in files if path.exists()]:
        raise UsageError(f"{listed(path.relative_to(folder) for path in there)} is there already.", next="git status")
    today = datetime.date.today()
    facts = {"name": name, "slug": module, "structure": structure, "organ": organ}
    text = {
        path: template.substitute(facts, year=today.year, month=today.month, day=today.day)
        for path, template in files.items()
    }
    _write(text)
    session.answer({"name": name, "slug": module, "written": list(files)}, *map(str, files))
    session.say(
        "Replace everything marked FILL IN, then:\n"
        f"  pytest tests/unit/recipes/test_{module}.py tests/conformance -k {module}\n"
        f"  us43d fetch {name} --specimen && us43d build {name}"
    )


def _slug(name: str, given: str | None) -> str:
    """The module's name. Raises UsageError for a name no recipe may have, or one that is taken."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        fitting = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-_.") or "NAME"
        raise UsageError(
            f"{name!r} cannot be the name of a folder: letters, digits, _ . - only.", next=f"us43d new {fitting}"
        )
    slug = given or re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", slug):
        raise UsageError(
            f"{slug!r} cannot be a module: lower case letters, digits and _, a letter first.",
            next=f"us43d new {name} --slug SLUG",
        )
    for each in (name, slug):
        try:
            known = registry.find(each)
        except UnknownName:
            continue
        raise UsageError(
            f"{each!r} is a name of {known.name}, which is there already.", next=f"us43d info {known.name}"
        )
    return slug


def _organ(structure: str) -> str:
    """The organ of a structure. Raises UsageError, with the nearest names, for one that the taxonomy lacks."""
    from us43d.harmonize.taxonomy import taxonomy

    organs = {category.name: category.organ for category in taxonomy().categories}
    if structure not in organs:
        near = difflib.get_close_matches(structure, organs, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"No structure is called {structure!r}.{hint}", next="us43d taxonomy")
    return organs[structure]


def _write(text: dict[Path, str]) -> None:
    """Write all files or none; a file that is there is never opened. Raises StorageError."""
    written: list[Path] = []
    try:
        for path, content in text.items():
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(content)
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(f"{error.filename} cannot be written: {error.strerror}.") from error
        raise
