"""Write the results: rows to a CSV file and a table on the terminal, axes to a PNG file."""

import csv
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure


def write_table(path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write `path` (CSV) and print the same rows as a Markdown table."""
    rows = [list(row) for row in rows]
    write_csv(path, header, rows)
    cells = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(map(str.ljust, line, widths)) + " |"
        for line in (cells[0], ["-" * width for width in widths], *cells[1:])
    ]
    print("\n".join(["", *lines, ""]), flush=True)


def write_csv(path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write the rows to `path` and print its name."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    print(f"wrote {path}")


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Sequence]:
    """Return a figure of a size in inches, and its `columns` axes, which are side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def write_figure(path: pathlib.Path, figure: Figure) -> None:
    """Write the figure to `path` and print its name."""
    figure.savefig(path, dpi=90)
    print(f"wrote {path}")


def mean_and_spread(values: Sequence[float], digits: int = 2) -> str:
    """Format mean and sample standard deviation as `"98.61 ± 0.12"`; of one value, the mean."""
    text = f"{np.mean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {np.std(values, ddof=1):.{digits}f}"


def progress(stage: str, items: Sequence) -> Iterator:
    """Yield the items and print how many are done.

    A terminal shows one line that is overwritten; elsewhere a line is printed every 30 s.
    """
    start = last = time.monotonic()
    width = 0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if sys.stderr.isatty():
            text = f"{stage}: {done} of {len(items)}, {now - start:.0f} s"
            width = max(width, len(text))
            print(f"\r{text.ljust(width)}", end="", file=sys.stderr, flush=True)
        elif now - last > 30 or (done == len(items) and now - start > 30):
            last = now
            print(f"{stage}: {done} of {len(items)}, {now - start:.0f} s", file=sys.stderr)
    if sys.stderr.isatty() and items:
        print(file=sys.stderr)
