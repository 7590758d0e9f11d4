"""The licences the sources carry, what each allows, what a set of sources may be used for, and the refusal of others.

None means that the point is not settled. A use that is not settled is treated as not allowed, and shown as unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from us43d.errors import LicenceError, listed

__all__ = [
    "CAVEAT", "LICENCES", "USES", "Summary", "Terms", "Use", "Verdict", "allows", "refuse_uncommercial", "summary",
    "terms", "terms_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Terms:
    """What one licence allows. Sources: the licence texts at `url`."""

    id: str
    title: str
    url: str | None
    commercial: bool | None
    redistribute: bool | None
    derivatives: bool | None
    share_alike: bool | None
    attribution: bool | None


def _cc(id: str, title: str, path: str, *, commercial: bool = True, derive: bool = True, alike: bool = False) -> Terms:
    url = f"https://creativecommons.org/licenses/{path}/"
    return Terms(id, title, url, commercial, True, derive, alike, True)


# fmt: off
_KNOWN = (
    Terms("CC0-1.0", "Creative Commons Zero 1.0", "https://creativecommons.org/publicdomain/zero/1.0/", True, True, True, False, False),
    _cc("CC-BY-4.0", "Creative Commons Attribution 4.0", "by/4.0"),
    _cc("CC-BY-3.0", "Creative Commons Attribution 3.0", "by/3.0"),
    _cc("CC-BY-SA-4.0", "Creative Commons Attribution-ShareAlike 4.0", "by-sa/4.0", alike=True),
    _cc("CC-BY-NC-3.0", "Creative Commons Attribution-NonCommercial 3.0", "by-nc/3.0", commercial=False),
    _cc("CC-BY-NC-4.0", "Creative Commons Attribution-NonCommercial 4.0", "by-nc/4.0", commercial=False),
    _cc("CC-BY-NC-SA-4.0", "Creative Commons Attribution-NonCommercial-ShareAlike 4.0", "by-nc-sa/4.0", commercial=False, alike=True),
    _cc("CC-BY-NC-ND-4.0", "Creative Commons Attribution-NonCommercial-NoDerivatives 4.0", "by-nc-nd/4.0", commercial=False, derive=False),
    Terms("Apache-2.0", "Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0", True, True, True, False, True),
    Terms("MIT", "MIT License", "https://opensource.org/license/mit", True, True, True, False, True),
    Terms("GPL-3.0", "GNU General Public License 3.0", "https://www.gnu.org/licenses/gpl-3.0", True, True, True, True, True),
    # PRIVATE: data of the user's own. CUSTOM: the source has terms of its own; the recipe states what they allow. UNSTATED: no terms are stated.
    Terms("CUSTOM", "The source's own terms", None, None, None, None, None, None),
    Terms("PRIVATE", "Private data; permitted uses unknown", None, None, None, None, None, None),
    Terms("UNSTATED", "No licence stated", None, None, None, None, None, None),
)
# fmt: on
LICENCES: dict[str, Terms] = {terms.id: terms for terms in _KNOWN}


def terms(id: str) -> Terms:
    """Return the terms of a licence id; KeyError for an id that is not in the table."""
    return LICENCES[id]


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
    """Return whether a licence allows a use; None where that is not settled.

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

    titles = sorted({own.title for own in terms.values()})
    return Summary(
        tuple(Verdict(use, USES[use], those(use, True), those(use, False), those(use, None)) for use in USES),
        tuple(name for name in names if terms[name].attribution),
        tuple(name for name in names if terms[name].share_alike),
        {title: tuple(name for name in names if terms[name].title == title) for title in titles},
    )


def terms_of(licence: Mapping[str, Any]) -> Terms:
    """Return the terms as dataset.json and corpus.json hold them under "licence"."""
    return Terms(**{name: licence[name] for name in Terms.__dataclass_fields__})


def refuse_uncommercial(terms: Mapping[str, Terms], command: str) -> None:
    """Refuse sources that are not known to allow commercial use.

    Args:
        terms: Name of each source → its terms.
        command: What to run instead; "{}" becomes the names of the sources that do allow it.

    Raises:
        LicenceError: If a licence forbids commercial use or does not settle it.
    """
    by_answer = {a: [name for name in terms if allows(terms[name], "commercial") is a] for a in (False, None, True)}
    refused = [
        f"{what} {listed(by_answer[answer], 50)}"
        for answer, what in ((False, "forbidden by"), (None, "not settled for"))
        if by_answer[answer]
    ]
    if refused:
        number = len(terms) - len(by_answer[True])
        raise LicenceError(
            f"--commercial refuses {number} of {len(terms)} sources. Commercial use is {', and '.join(refused)}.",
            next=command.format(" ".join(by_answer[True])) if by_answer[True] else "us43d licences --all --commercial",
        )
