"""What a chart costs a page, by library: the training curves of a report, drawn by each.

    pip install altair vl-convert-python matplotlib plotly
    python benchmarks/chart_libraries.py docs/results/quickstart-seed0.json

Prints the kilobytes that the charts of a report add to a page which has to work without a network, and the seconds
that drawing them takes, import included. `docs/reports.md` has the table.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from masksearch_agent.reports.charts import draw_curves
from masksearch_agent.reports.records import Curve, read_report


def altair(curves: Sequence[Curve]) -> str:
    return "".join(chart.svg for chart in draw_curves(curves))


def matplotlib(curves: Sequence[Curve]) -> str:
    import matplotlib as library

    library.use("svg")
    library.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "same"})
    from matplotlib import pyplot

    pages = []
    for metric in dict.fromkeys(curve.metric for curve in curves):
        figure, axes = pyplot.subplots(figsize=(3.8, 2.1))
        for curve in (curve for curve in curves if curve.metric == metric):
            axes.plot(*zip(*curve.points, strict=True), label=curve.stage)
        axes.set(xlabel="training step", ylabel=metric)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        pages.append(file.getvalue())
    return "".join(pages)


def plotly(curves: Sequence[Curve]) -> str:
    from plotly import graph_objects

    pages = []
    for metric in dict.fromkeys(curve.metric for curve in curves):
        figure = graph_objects.Figure(layout={"xaxis_title": "training step", "yaxis_title": metric})
        for curve in (curve for curve in curves if curve.metric == metric):
            steps, values = zip(*curve.points, strict=True)
            figure.add_scatter(x=steps, y=values, name=curve.stage)
        # The library itself is part of a page that loads nothing: once.
        pages.append(figure.to_html(full_html=False, include_plotlyjs=not pages, div_id=f"chart-{metric}"))
    return "".join(pages)


def main() -> None:
    curves = read_report(Path(sys.argv[1])).curves
    libraries: tuple[Callable[[Sequence[Curve]], str], ...] = (altair, matplotlib, plotly)
    for draw in libraries:
        started_s = time.perf_counter()
        page = draw(curves)
        took_s = time.perf_counter() - started_s
        again = "same" if draw(curves) == page else "another"
        print(
            f"{draw.__name__:<11} {len(page.encode()) / 1000:>8.0f} kB {took_s:>6.2f} s, {again} the second time"
        )


if __name__ == "__main__":
    main()
