"""HTML from the templates in page/; every value is escaped unless it was rendered here."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["render"]


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("us43d.view", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def render(template: str, **values: Any) -> str:
    """Render page/<template>."""
    return _environment().get_template(template).render(**values)
