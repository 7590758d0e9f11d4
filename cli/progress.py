"""Progress bars on stderr: what, how far, how fast, how much longer. They vanish when done; a line of text stays."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["Bars"]


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        done, total, unit = task.completed, task.total, task.fields["unit"]
        if unit == "B":
            return Text(f"{decimal(int(done))} of {decimal(int(total))}" if total else decimal(int(done)))
        return Text(f"{done:,.0f} of {total:,.0f} {unit}" if total else f"{done:,.0f} {unit}")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        if task.fields["unit"] == "B":
            return Text(f"{decimal(int(speed))}/s", style="progress.data.speed")
        return Text(f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s", style="progress.data.speed")


class Bars:
    """The bars of one session: one live display however many tasks run."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            _Count(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        )
        self._lock = threading.Lock()
        self.running = 0

    def above(self, text: str) -> None:
        """Print a line of text above the bars."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, what: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
        with self._lock:
            if self.running == 0:
                self._progress.start()
            self.running += 1
        task = self._progress.add_task(what, total=None, unit=unit)
        try:
            yield lambda done, total: self._progress.update(task, completed=done, total=total)
        finally:
            self._progress.remove_task(task)
            with self._lock:
                self.running -= 1
                if self.running == 0:
                    self._progress.stop()
