"""Model card of a run's weights: training data, permitted uses, citations."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from us43d import atomic
from us43d.harmonize.corpus import Corpus
from us43d.train.config import TrainConfig

__all__ = ["model_card", "references", "write"]

Quality: TypeAlias = Callable[[Mapping[str, Any]], str]

_USE = {True: "allowed by every source", False: "forbidden by some", None: "not settled for some"}
_ALLOWED = {True: "allowed", False: "forbidden", None: "not settled"}


def _used(corpus: Corpus, config: TrainConfig) -> list[dict[str, Any]]:
    return [corpus.sources[index] for index in corpus.select(config.sources)]


def references(corpus: Corpus, config: TrainConfig) -> str:
    """Collect the BibTeX entries of the sources trained on, sorted by text, without duplicates."""
    entries = {citation["bibtex"].strip() for source in _used(corpus, config) for citation in source["citations"]}
    return "\n\n".join(sorted(entries)) + "\n"


def model_card(meta: Mapping[str, Any], corpus: Corpus, config: TrainConfig, quality: Quality) -> str:
    """Write a model card in Markdown.

    Args:
        meta: Record stored with the weights (run, preset, step, corpus, init, licences, validation).
        corpus: The corpus trained on.
        config: Configuration of the run.
        quality: Describes a validation record in a sentence.
    """
    licences, validation = meta["licences"], meta["validation"]
    made_up = [source["name"] for source in _used(corpus, config) if source.get("specimen")]
    parts = [
        f"# {meta['run']}",
        f"Promptable ultrasound segmentation, preset `{meta['preset']}`, {meta['step']:,} steps, us43d "
        f"{meta['us43d']}, corpus `{meta['corpus'][:12]}`. For research; not a medical device.",
        "## Trained on",
        "\n".join(f"- {title}: {', '.join(names)}" for title, names in sorted(licences["by_licence"].items())),
        f"Commercial use: {_USE[licences['commercial']]}. Whether weights are derived from data is not settled in "
        "law. Entries to cite are in references.bib.",
    ]
    if init := meta["init"]:
        parts.append(
            f"Training began with the weights {init['name']} (sha256 {init['sha256'][:12]}). Licence: "
            f"{init['licence'] or 'not known'}. Commercial use: {_ALLOWED[init['commercial']]}."
        )
    if made_up:
        parts.append(f"Simulated specimens, no real data: {', '.join(made_up)}.")
    parts.append("## Held-out groups")
    if validation is None:
        parts.append("No image was held out.")
    else:
        parts.append(quality(validation))
    return "\n\n".join(parts) + "\n"


def write(folder: Path, meta: Mapping[str, Any], corpus: Corpus, config: TrainConfig, quality: Quality) -> None:
    """Write README.md and references.bib next to the weights. Raises StorageError."""
    atomic.write_bytes(folder / "README.md", model_card(meta, corpus, config, quality).encode())
    atomic.write_bytes(folder / "references.bib", references(corpus, config).encode())
