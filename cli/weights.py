"""Verbs around weights: weights show, get, import, export."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from us43d.errors import LicenceError, UnknownName, UsageError

from .models import weights_of
from .output import Session, plain
from .tables import Columns, Table
from .verb import app, verb

if TYPE_CHECKING:
    from us43d.model.published import Published

PANEL = "Model"

weights = typer.Typer(name="weights", help="Show, download, import and export weights.", no_args_is_help=True)
app.add_typer(weights, rich_help_panel=PANEL)

Force = Annotated[bool, typer.Option("--force", help="Replace an existing file or folder.")]


# ---------------------------------------------------------------------------------------------------------------- show


@verb("show", of=weights, panel=PANEL, examples=("us43d weights show", "us43d weights show ultrasam"))
def show(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(help="Weights: a name, run, file or folder.", metavar="WEIGHTS", show_default=False)
    ] = None,
) -> None:
    """List public weights and those on this disk, or show what one file or folder contains."""
    if name is None:
        _listing(session)
        return
    from us43d.model.weights import load

    path = weights_of(session, name)
    loaded = load(path)
    count = sum(value.numel() for value in loaded.state.values())
    data = {
        "path": path, "form": loaded.form, "tensors": len(loaded.state), "parameters": count, "notes": loaded.notes,
        "config": loaded.config,
    }  # fmt: skip
    rows: list[tuple[str, str]] = [
        ("path", str(path)), ("form", loaded.form), ("parameters", f"{count:,} in {len(loaded.state)} tensors"),
        *(("note", note) for note in loaded.notes),
        *((key, str(value)) for key, value in loaded.config.model_dump().items()),
    ]  # fmt: skip
    session.answer(data, Table((("", "left"), ("", "fold")), rows))


def _listing(session: Session) -> None:
    from us43d.model.published import PUBLISHED
    from us43d.model.weights import SHIPPED, shipped

    home = session.home
    data: list[dict[str, Any]] = [
        {"name": SHIPPED, "title": "comes with us43d; used where no weights are given", "path": shipped(),
         "licence": "CC-BY-4.0", "size": sum(file.stat().st_size for file in shipped().glob("*.safetensors"))}
    ]  # fmt: skip
    for entry in PUBLISHED.values():
        file = home.weights / f"{entry.name}.pth"
        data.append(entry._asdict() | {"path": file if file.exists() else None})
    public = {home.weights / f"{name}.pth" for name in PUBLISHED}
    own = [p for p in sorted(home.weights.glob("*")) if p not in public and p.suffix != ".json" and p.name[0] != "."]
    runs = sorted(log.parent for log in home.runs.glob("*/log.jsonl"))
    data += [{"name": path.name, "title": "on this disk", "path": path} for path in own]
    data += [{"name": path.name, "title": "a run", "path": path} for path in runs]
    rows = [
        (
            entry["name"],
            entry["title"],
            entry.get("licence"),
            f"{entry['size'] / 1e6:,.0f} MB" if entry.get("size") else None,
            "here" if entry["path"] else None,
        )
        for entry in data
    ]
    heads: Columns = (("weights", "left"), ("", "fold"), ("licence", "left"), ("size", "right"), ("on disk", "left"))
    session.answer(data, Table(heads, rows))
    session.say(f"weights: {home.weights}; runs: {home.runs}; download public weights with us43d weights get NAME")


# ----------------------------------------------------------------------------------------------------------------- get


@verb(
    "get",
    of=weights,
    panel=PANEL,
    kept="Downloaded data are kept; the same command resumes.",
    examples=("us43d weights get sam_vit_b", "us43d weights get ultrasam --accept-licence"),
)
def get(
    session: Session,
    name: Annotated[str, typer.Argument(help="Public weights.", metavar="NAME")],
    accept: Annotated[bool, typer.Option("--accept-licence", help="Accept the licence of these weights.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Download existing weights again.")] = False,
) -> None:
    """Download public weights after showing their licence, and verify them."""
    from us43d import atomic
    from us43d.fetch.download import download
    from us43d.fetch.http import Remote, Web
    from us43d.fetch.store import check_room
    from us43d.model.published import PUBLISHED

    if name not in PUBLISHED:
        raise UnknownName(
            f"Unknown public weights {name!r}. Use one of {', '.join(PUBLISHED)}.", next="us43d weights show"
        )
    wanted = PUBLISHED[name]
    folder = session.home.weights
    file, receipt = folder / f"{name}.pth", folder / f"{name}.json"
    known = json.loads(receipt.read_text("utf-8")) if receipt.is_file() else {}
    if file.exists() and not force:
        session.answer({"path": file, "fetched": False, **known}, f"{file} already exists")
        return
    _accepted(session, wanted, accept or known.get("licence") == wanted.licence)
    if wanted.size:
        check_room(folder, wanted.size, name)
    remote = Remote(file.name, wanted.url, wanted.size, wanted.md5, wanted.sha256)
    with session.progress(name, "B") as move:
        came = download(remote, folder, Web(), move, known=known.get("sha256"))
    entry = {"name": name, "licence": wanted.licence, **came.entry()}
    atomic.write_files(folder, {receipt.name: json.dumps(entry, indent=1)}, f"{file} is complete.")
    session.answer({"path": file, "fetched": True, **entry}, f"{file}: {came.bytes:,} bytes, checked by {came.trust}")


def _accepted(session: Session, wanted: "Published", accepted: bool) -> None:
    """Show the licence; ask where a person is there. Raises LicenceError."""
    session.say(f"{wanted.title}, licence {wanted.licence}; see {wanted.page}")
    if accepted or (session.asks and typer.confirm("Accept this licence?", err=True)):
        return
    raise LicenceError(
        f"The licence of {wanted.name}, {wanted.licence}, was not accepted.",
        next=f"us43d weights get {wanted.name} --accept-licence",
    )


# ------------------------------------------------------------------------------------------------------ import, export


@verb(
    "import",
    of=weights,
    panel=PANEL,
    examples=("us43d weights import UltraSam.pth --name ultrasam", "us43d weights import medsam_vit_b.pth"),
)
def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(help="A .pth, .safetensors or SamModel folder.", metavar="FILE|FOLDER")],
    name: Annotated[
        str | None, typer.Option(help="Name of the imported weights. Default: the name of the file.")
    ] = None,
    force: Force = False,
) -> None:
    """Read weights of any form, running nothing in them, and keep them as safetensors with their configuration."""
    from us43d.model.weights import export as write
    from us43d.model.weights import load

    if name is not None and (not name or Path(name).name != name or name.startswith(".")):
        raise UsageError(f"Invalid --name {name!r}. Use a plain name without folders or a leading dot.")
    loaded = load(file.expanduser())
    public = _public(file.expanduser())
    target = session.home.weights / (name or file.name.removesuffix(".pth").removesuffix(".safetensors"))
    _free(target, force)
    write(loaded, target, "us43d", public)
    data = {
        "path": target,
        "form": loaded.form,
        "config": plain(loaded.config),
        "notes": loaded.notes,
        "public": public,
    }
    if public is None:
        session.say("unknown digest: not public weights that us43d lists, so their licence is unknown")
    session.answer(data, f"{target}: {loaded.config.mlp_residual} residual, from the form {loaded.form}", *loaded.notes)


def _public(file: Path) -> str | None:
    """Return the name of the public weights with the digest of a file, or None."""
    from us43d.model.published import identify

    if not file.is_file():
        return None
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    public = identify(file, digest)
    return public.name if public else None


@verb(
    "export",
    of=weights,
    panel=PANEL,
    examples=(
        "us43d weights export ultrasam ultrasam-hf --to huggingface",
        "us43d weights export first first.pth --to meta",
        "us43d weights export us43d-small small-onnx --to onnx",
        "us43d weights export us43d-small small-int8 --to onnx --int8",
    ),
)
def export(
    session: Session,
    name: Annotated[str, typer.Argument(help="Weights: a name, run, file or folder.", metavar="WEIGHTS")],
    out: Annotated[Path, typer.Argument(help="File (meta, ultrasam) or folder (other forms) to write.")],
    to: Annotated[
        Literal["us43d", "meta", "ultrasam", "huggingface", "onnx"],
        typer.Option(
            help="meta: segment_anything .pth. ultrasam: mmengine .pth. huggingface: folder for SamModel and "
            "SamProcessor. onnx: folder of encoder, decoder and second look."
        ),
    ],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="onnx: 8-bit weights (dynamic quantisation). Smaller, not faster: us43d-small takes 8 MB instead of "
            "24 MB, and its encoder 4 to 6 times as long on a CPU.",
        ),
    ] = False,
    force: Force = False,
) -> None:
    """Write weights in another form; UltraSam's decoder becomes an equal one that plain SAM code runs."""
    from us43d.model.weights import export as write
    from us43d.model.weights import load

    if int8 and to != "onnx":
        raise UsageError("--int8 goes with --to onnx.", next=f"us43d weights export {name} {out} --to onnx --int8")
    path = weights_of(session, name)
    loaded = load(path)
    _free(out, force)
    if to == "onnx":
        from us43d.model.onnx import export_onnx

        notes = export_onnx(loaded, out, path, _public(path), int8=int8)
    elif to == "huggingface":
        from us43d.model.hub import export_huggingface

        notes = export_huggingface(loaded, out, path, _public(path))
    else:
        notes = write(loaded, out, to)
        if to == "us43d":
            from us43d.model.credits import carried

            carried(loaded, path, out, _public(path))
    session.answer({"path": out, "form": to, "notes": notes}, f"{out}: {to}, from the form {loaded.form}", *notes)


def _free(target: Path, force: bool) -> None:
    if target.exists() and not force:
        raise UsageError(f"{target} already exists.", next="the same with --force")
