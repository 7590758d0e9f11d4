"""The verb that counts: stats."""

from typing import Annotated

import typer

from us43d import atomic
from us43d.errors import counted

from .build import PANEL
from .builds import complain, is_built, of_newest, sources
from .many import Outcome
from .options import Names
from .output import Session
from .tables import Columns, Table
from .verb import verb


@verb(
    "stats",
    panel=PANEL,
    examples=("us43d stats BUSI", "us43d stats --all", "us43d stats --all --json"),
)
def stats(
    session: Session,
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Every built source.")] = False,
) -> None:
    """Count images, groups and annotations by source, organ, structure and split; draw sizes and areas."""
    from us43d.cards.statistics import page, statistics

    recipes, bad = sources(session, names, every, is_built, "stats"), list[Outcome]()
    counts = of_newest(session, recipes, statistics, bad if every else None)
    file = session.home.root / "stats" / "index.html"
    atomic.write_files(file.parent, {file.name: page(counts)}, "The last page stays.")
    data = counts.data()
    heads: Columns = (
        ("source", "left"), ("images", "right"), ("groups", "right"), ("annotations", "right"), ("train", "right"),
        ("val", "right"), ("test", "right"), ("excluded", "right"), ("dropped", "fold"),
    )  # fmt: skip
    rows = []
    for name, entry in data["sources"].items():
        parts = [entry["splits"].get(split, {}).get("images") for split in ("train", "val", "test", "excluded")]
        drops = "\n".join(f"{number:,}: {reason}" for reason, number in entry["drops"].items())
        rows.append((name, entry["images"], entry["groups"], entry["annotations"], *parts, drops))
    shares: Columns = (
        ("structure", "left"), ("organ", "left"), ("images", "right"), ("annotations", "right"),
        ("median share", "right"),
    )  # fmt: skip
    structures = [
        (name, entry["organ"], entry["images"], entry["annotations"], entry["area_share"]["p50"])
        for name, entry in data["structures"].items()
    ]
    total = data["total"]
    session.answer(
        data | {"page": str(file)},
        Table(heads, rows),
        "",
        Table(shares, structures),
        "",
        f"{counted(total['images'], 'image')}, {counted(total['annotations'], 'annotation')}, "
        f"{counted(total['groups'], 'group')} of {counted(total['sources'], 'source')}; plots: {file}",
    )
    complain(recipes, bad)
