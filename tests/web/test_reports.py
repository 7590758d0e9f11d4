"""Reports without a server: read on a phone as on a large screen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from us43d import report

pytestmark = pytest.mark.web

#: Texts of the plots that are cut by the window, or that another one covers.
UNREADABLE = """() => {
  const texts = [...document.querySelectorAll('svg text, .rows > span')].filter((text) => text.textContent)
    .map((text) => ({ text: text.textContent, size: parseFloat(getComputedStyle(text).fontSize), box: text.getBoundingClientRect() }));
  const bad = texts.filter(({ box, size }) => box.left < 0 || box.right > innerWidth || size < 11.9);
  texts.forEach((one, n) => texts.slice(n + 1).forEach((other) => {
    const across = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
    const down = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
    if (across > 2 && down > 4) bad.push({ text: `${one.text} on ${other.text}` });
  }));
  return bad.map(({ text }) => text);
}"""  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("width", [390, 1280, 2560])
def test_plots_are_readable_and_tables_are_whole(tmp_path: Path, visit: Callable[..., Any], width: int) -> None:
    shares = [0.001, 0.01, 0.02, 0.05, 0.3]
    rows = [("left_ventricular_myocardium", [("us43d-small", 0.9, 0.85, 0.95), ("ellipse", 0.7, 0.6, 0.8)])]
    heads = ["structure", "protocol", "prompt", "clicks", "weights", "instances", "groups", "Dice", "IoU", "HD95 px",
             "NSD 2 px", "HD95 mm", "NSD 1 mm", "clicks to Dice 0.9"]  # fmt: skip
    interval = "0.929 (0.926–0.932)"
    sections = [
        ("Bars", report.bars([("left_ventricular_myocardium", (48, 7)), ("breast_lesion", (1, 0))], "n", ("a", "b"))),
        ("Ranges", report.ranges([("left_ventricular_myocardium", shares)], "share")),
        ("Forest", report.forest(rows, "Dice")),
        ("Lines", report.lines([report.Series("box", range(8), [0.9 + n / 1000 for n in range(8)])], "clicks", "Dice")),
        ("Sizes", report.bubbles([("BUSI", [(500, 400, 7), (1500, 1200, 1)])], "width", "height")),
        ("Scatter", report.scatter(range(50), range(50), "mean", "difference", {"bias": 1.0, "bias + 1.96 SD": 40})),
        (
            "Table",
            report.table(
                heads, [["left_ventricular_myocardium", "ours", "random", 0, "us43d-small", 29, 6, *[interval] * 7]]
            ),
        ),
    ]
    (tmp_path / "page.html").write_text(report.page("Report", sections), "utf-8")
    page = visit((tmp_path / "page.html").as_uri(), width=width, scheme="dark")
    assert page.evaluate(UNREADABLE) == []
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    cut = page.evaluate("document.querySelector('.wide').scrollWidth > document.querySelector('.wide').clientWidth")
    assert cut == (width == 390)  # a table scrolls on a phone only
    assert page.get_by_role("img", name="left_ventricular_myocardium: 48 a, 7 b").count() == 1
    assert page.get_by_role("img", name="us43d-small 0.900 (0.850 to 0.950), ellipse").count() == 1
