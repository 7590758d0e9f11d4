"""The licences the sources carry and what each allows.

None means that the point is not settled. A use that is not settled is treated as not allowed, and shown as unknown.
"""

from dataclasses import dataclass

__all__ = ["LICENCES", "Terms", "terms"]


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
    # CUSTOM: the source has terms of its own; the recipe states what they allow. UNSTATED: nobody has stated any.
    Terms("CUSTOM", "The source's own terms", None, None, None, None, None, None),
    Terms("UNSTATED", "No licence stated", None, None, None, None, None, None),
)
# fmt: on
LICENCES: dict[str, Terms] = {terms.id: terms for terms in _KNOWN}


def terms(id: str) -> Terms:
    """The terms of a licence id; KeyError for an id that is not in the table."""
    return LICENCES[id]
