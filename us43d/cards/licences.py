"""What a set of sources may be used for, read from their licences; what is not settled stays unknown."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from us43d.licences import Terms

__all__ = ["CAVEAT", "USES", "Summary", "Use", "Verdict", "allows", "summary", "terms_of"]

Use: TypeAlias = Literal["research", "commercial", "derive", "redistribute"]

USES: Mapping[Use, str] = {
    "research": "train on it, for research",
    "commercial": "train on it, commercially",
    "derive": "publish what was made from it (converted masks, weights)",
    "redistribute": "pass its images on",
}

CAVEAT = (
    "Read from the licences' own words as the facts record them; no legal advice. Whether trained weights are derived "
    "from their data is not settled in law; they are counted as derived here, to be on the safe side."
)


def allows(terms: Terms, use: Use) -> bool | None:
    """Whether a licence allows a use; None where that is not settled.

    A source without any stated licence allows nothing for certain. Research is what every stated licence here allows.
    """
    if use == "research":
        return None if terms.id == "UNSTATED" else True
    if use == "commercial":
        return terms.commercial
    if use == "derive":
        return terms.derivatives
    return terms.redistribute


class Verdict(NamedTuple):
    """The sources a use is allowed, forbidden and unknown for, each by name."""

    use: Use
    meaning: str
    allowed: tuple[str, ...]
    forbidden: tuple[str, ...]
    unknown: tuple[str, ...]


class Summary(NamedTuple):
    """verdicts: one per use. attribution, share_alike: sources whose licence binds the user to that.

    by_licence: licence title → sources.
    """

    verdicts: tuple[Verdict, ...]
    attribution: tuple[str, ...]
    share_alike: tuple[str, ...]
    by_licence: dict[str, tuple[str, ...]]


def summary(terms: Mapping[str, Terms]) -> Summary:
    """Sum up source name → terms."""
    names = sorted(terms, key=str.lower)

    def those(use: Use, answer: bool | None) -> tuple[str, ...]:
        return tuple(name for name in names if allows(terms[name], use) is answer)

    titles = sorted({each.title for each in terms.values()})
    return Summary(
        tuple(Verdict(use, USES[use], those(use, True), those(use, False), those(use, None)) for use in USES),
        tuple(name for name in names if terms[name].attribution),
        tuple(name for name in names if terms[name].share_alike),
        {title: tuple(name for name in names if terms[name].title == title) for title in titles},
    )


def terms_of(licence: Mapping[str, Any]) -> Terms:
    """The terms as dataset.json and corpus.json hold them under "licence"."""
    return Terms(**{name: licence[name] for name in Terms.__dataclass_fields__})
