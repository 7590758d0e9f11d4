"""A verb for contributors: new, which writes what a new source needs into a checkout."""

import datetime
import difflib
import re
import sys
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from us43d import atomic, registry
from us43d.errors import StorageError, UnknownName, UsageError, listed
from us43d.facts import REFERENCES, parse_bibtex

from .output import Session
from .verb import verb

FACTS = Template("""name = "$name"
title = "FILL IN: the published title"
organ = "$organ"
application = "FILL IN: segmented structure and purpose"
media = "image2d"  # or video, volume3d, hdf5, npy
kind = "human"  # or phantom, animal, synthetic, derived
collections = ["beyond"]
homepage = "https://example.org/fill-in"
citations = ["$key"]
access = "request"
access_checked = $today
group_kind = "patient"
group_rule = "FILL IN: what tells the patient; this skeleton takes the file name before its first underscore."
sources = [
  "FILL IN: where these facts were read",
]
confidence = "FILL IN: which statements were read, inferred or are unknown."

[licence]
id = "UNSTATED"
evidence = "FILL IN: where the licence is stated, or that it is not."

[labels]
$labels

[expect]
# FILL IN: published counts that the files must reach (images, annotated, masks, groups); omit unknown ones.

[ignore]
# FILL IN: "pattern of files that are not read, in lower case" = "why"

[paper]
note = "Not in the published collection: no published conversion exists."

[[routes]]
kind = "manual"
url = "https://example.org/fill-in"
note = "FILL IN: how a person gets the files."
""")

LABEL_MAP = Template('''"""$name: FILL IN what is in it, in one line."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

#: FILL IN: the value of each label in the label maps.
VALUES = {
$values
}


def read(raw: RawTree) -> Iterator[Sample]:
    # FILL IN: how images and label maps pair. This one reads images/<name>.png with masks/<name>.png, at any depth.
    tree = raw.at("images")
    for key in tree.glob("images/*.png"):
        name = key.rpartition("/")[2]
        yield Sample(
            key=key,
            image=tree.path(key),
            masks=masks.by_value(lazy(masks.label_image, tree.path(f"masks/{name}")), VALUES),
            group=name.partition("_")[0],
        )


RECIPE = source(__name__, read)
''')

RECIPE = Template('''"""$name: FILL IN what is in it, in one line."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source


def read(raw: RawTree) -> Iterator[Sample]:
    # FILL IN: how images and masks pair. This one reads images/<name>.png with masks/<name>.png, at any depth.
    tree = raw.at("images")
    for key in tree.glob("images/*.png"):
        name = key.rpartition("/")[2]
        mask, patient = lazy(masks.binary, tree.path(f"masks/{name}")), name.partition("_")[0]
        yield Sample(key=key, image=tree.path(key), masks={"$structure": mask}, group=patient)


RECIPE = source(__name__, read)
''')

BIBTEX = Template("""@misc{$key,
  title={FILL IN: title of the article, else of the record},
  author={FILL IN},
  year={$year}
}
""")

LABEL_MAPS = Template('''"""$name as published: FILL IN its names and oddities. It follows the facts, not the reader."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, label_map, speckle, write_image

#: FILL IN: the value of each label in the label maps.
VALUES = {
$values
}


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples, count = {}, len(VALUES)
    for n in range(12 * scale):
        name, shape = f"p{n // 2:03}_{n % 2}.png", (64, 64 * count)
        drawn = {label: blob(shape, rng, cell=(at / count, 0, (at + 1) / count, 1)) for at, label in enumerate(VALUES)}
        labels = label_map(shape, {VALUES[label]: mask for label, mask in drawn.items()})
        write_image(root / "images" / name, speckle(shape, list(drawn.values()), rng))
        write_image(root / "masks" / name, labels)
        truth = {label: [mask] for label, mask in drawn.items()}
        samples[f"images/{name}"] = Drawn(truth, group=f"p{n // 2:03}")
    return Truth(samples)
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

#: File of the checkout, by slug → what is written there for one structure, and for several.
FILES = {
    "recipes/facts/{}.toml": (FACTS, FACTS),
    "recipes/{}.py": (RECIPE, LABEL_MAP),
    "recipes/specimens/{}.py": (SPECIMEN, LABEL_MAPS),
}


@verb(
    "new",
    panel="Contributing",
    examples=(
        "us43d new Wrist-Set --structure needle",
        "us43d new 4CH-Set --slug four_chamber_set --structure fetal_heart",
        "us43d new Block-Set --structure needle --structure brachial_plexus",
    ),
)
def new(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the source: letters, digits, _ . -", metavar="NAME")],
    structure: Annotated[
        list[str],
        typer.Option(
            help="Structure shown by its masks (us43d taxonomy). Given several times: values of label maps.",
            metavar="STRUCTURE",
        ),
    ],
    slug: Annotated[
        str | None, typer.Option(help="Name of its modules. Default: made from NAME.", show_default=False)
    ] = None,
    bibtex: Annotated[
        Path | None,
        typer.Option(help="A file with the BibTeX entry to cite, or - for stdin.", metavar="FILE", show_default=False),
    ] = None,
    checkout: Annotated[Path, typer.Option(help="The checkout to write into.", metavar="FOLDER")] = Path(),
) -> None:
    """Start a new source: facts, reader and specimen to fill in (docs/adding-a-source.md). Overwrites nothing."""
    folder, structures = checkout.absolute(), list(dict.fromkeys(structure))
    options = " ".join(f"--structure {one}" for one in structures)
    if not (folder / "pyproject.toml").is_file() or not all((folder / f).parent.is_dir() for f in FILES):
        raise UsageError(f"{folder} is not a checkout of us43d.", next=f"us43d new {name} {options} --checkout FOLDER")
    module = _slug(name, slug, options)
    organ, *_ = map(_organ, structures)
    files = {folder / path.format(module): pair[len(structures) > 1] for path, pair in FILES.items()}
    if existing := [path for path in files if path.exists()]:
        raise UsageError(f"{listed(path.relative_to(folder) for path in existing)} already exists.", next="git status")
    today = datetime.date.today()
    entry = _entry(bibtex) if bibtex else BIBTEX.substitute(key=module, year=today.year)
    bibliography = folder / "recipes" / "facts" / REFERENCES
    key, references, is_new = _added(bibliography, entry)
    values = {
        "name": name, "structure": structures[0], "organ": organ, "key": key, "today": today,
        "labels": "\n".join(f'{one} = "{one}"' for one in structures),
        "values": "\n".join(f'    "{one}": {value},' for value, one in enumerate(structures, start=1)),
    }  # fmt: skip
    _write({path: template.substitute(values) for path, template in files.items()})
    atomic.write_bytes(bibliography, references.encode())
    session.answer({"name": name, "slug": module, "citation": key, "written": list(files)}, *map(str, files))
    session.say(
        f"The entry {key} {'was added to' if is_new else 'was found in'} recipes/facts/{REFERENCES}. "
        "Replace everything marked FILL IN, then:\n"
        f"  pytest tests/conformance -k {module}\n"
        f"  us43d fetch {name} --specimen && us43d build {name} && us43d check {name}"
    )


def _entry(path: Path) -> str:
    """Read a BibTeX file.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The BibTeX file {path} cannot be read: {error}.", next="us43d new --help") from error


def _added(path: Path, entry: str) -> tuple[str, str, bool]:
    """Return (key of the entry, text of the bibliography with it, in the order of the keys, whether it is new there).

    Raises UsageError for an entry that is not one valid entry, or whose key is taken by another.
    """
    try:
        new, known = parse_bibtex(entry), parse_bibtex(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"Invalid BibTeX: {error}.", next="us43d new --help") from error
    if len(new) != 1:
        raise UsageError(f"Expected one BibTeX entry, found {len(new)}.", next="us43d new --help")
    ((key, citation),) = new.items()
    if known.get(key, citation).bibtex != citation.bibtex:
        raise UsageError(
            f"The BibTeX key {key!r} is already used for another entry in {path}.", next="us43d cite --all"
        )
    texts = {name: entry.bibtex for name, entry in (known | new).items()}
    return key, "\n\n".join(texts[name] for name in sorted(texts, key=str.lower)) + "\n", key not in known


def _slug(name: str, module: str | None, options: str) -> str:
    """Return the name of the module. options: as given for the structures, for messages.

    Raises:
        UsageError: If the name is invalid or used by another recipe.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        fitting = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-_.") or "NAME"
        raise UsageError(
            f"Invalid name {name!r}. Use letters, digits, _ . and - only.",
            next=f"us43d new {fitting} {options}",
        )
    slug = module or re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", slug):
        raise UsageError(
            f"Invalid module name {slug!r}. Use lower-case letters, digits and _, with a letter first.",
            next=f"us43d new {name} --slug SLUG {options}",
        )
    for wanted in (name, slug):
        try:
            known = registry.look_up(wanted)
        except UnknownName:
            continue
        raise UsageError(
            f"{wanted!r} is a name of {known.name}, which already exists.", next=f"us43d info {known.name}"
        )
    return slug


def _organ(structure: str) -> str:
    """Return the organ of a structure.

    Raises:
        UsageError: If the taxonomy lacks the structure; the message suggests the nearest names.
    """
    from us43d.harmonize.taxonomy import taxonomy

    organs = {category.name: category.organ for category in taxonomy().categories}
    if structure not in organs:
        near = difflib.get_close_matches(structure, organs, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(
            f"Unknown structure {structure!r}.{hint}",
            next="us43d taxonomy   (if none fits, add a line to manifests/taxonomy.json)",
        )
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
