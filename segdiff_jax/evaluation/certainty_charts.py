"""Draws the charts of certainty of a report as PNG bytes; see `charts`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segdiff_jax.evaluation.charts import BLUE, GREY, ORANGE, new_figure, reliability, styled_png


def charts(content: Mapping[str, Any]) -> dict[str, bytes]:
    """Returns the charts of `certainty.scores` by caption; None stands for undefined."""
    pixels, quality = content["pixels"], content["quality"]
    found = {
        "Reliability in the band at contours": reliability(_bins(pixels["band"]["bins"])),
        "Errors removed by deferral": removal(
            {name: pixels[name]["removal"] for name in ("image", "band")}
        ),
        "Risk and coverage of pictures": risk_coverage(quality["curve"], quality["best_curve"]),
    }
    if "predicted" in quality:
        found["Predicted and true Dice"] = predicted(quality["predicted"], quality["true"])
    for name, of in content["intervals"].items():
        if "low" in of:
            title = f"80 % intervals of {'area, pixels' if name == 'area' else 'number of objects'}"
            found[title] = intervals(of["low"], of["high"], of["true"])
    return found


def _bins(sums: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Returns what `reliability` draws, of [3][bins] sums; see `pixel_scores.bins`."""
    n = len(sums[0])
    return [
        {
            "from": i / n,
            "to": (i + 1) / n,
            "pixels": count,
            "mean_probability": p / count if count else None,
            "share_positive": positive / count if count else None,
        }
        for i, (p, positive, count) in enumerate(zip(*sums, strict=True))
    ]


def removal(curves: Mapping[str, Sequence[float | None]]) -> bytes:
    """Draws the share of errors among the most uncertain pixels, by share in steps of 0.01."""
    figure = new_figure(4.6, 3.2)
    axes = figure.subplots()
    for (name, curve), colour in zip(curves.items(), (BLUE, ORANGE), strict=True):
        values = np.array([np.nan if x is None else x for x in curve])
        axes.plot(np.arange(len(values)), 100 * values, color=colour, label=name)
    axes.plot((0, 30), (0, 30), color=GREY, linestyle="--", label="chance")
    axes.set(xlabel="pixels deferred, %", ylabel="errors removed, %", ylim=(0, 102))
    axes.legend(frameon=False)
    return styled_png(figure)


def risk_coverage(curve: Sequence[float], best: Sequence[float]) -> bytes:
    """Draws the mean of 1 - Dice over the k pictures that are most sure, and the best order's."""
    figure = new_figure(4.6, 3.2)
    axes = figure.subplots()
    share = 100 * np.arange(1, len(curve) + 1) / len(curve)
    axes.plot(share, curve, color=BLUE, label="this run")
    axes.plot(share, best, color=GREY, linestyle="--", label="perfect order")
    axes.axhline(curve[-1], color=ORANGE, linestyle=":", label="random order")
    axes.set(xlabel="pictures kept, %", ylabel="mean 1 - Dice")
    axes.legend(frameon=False)
    return styled_png(figure)


def predicted(rows: Sequence[Sequence[float | None]], true: Sequence[float]) -> bytes:
    """Draws the true Dice against the predicted one with its interval, [value, low, high]."""
    figure = new_figure(4.6, 4.2)
    axes = figure.subplots()
    value, low, high = np.array(rows, np.float64).T
    axes.hlines(true, low, high, color=GREY, linewidth=0.8)
    axes.plot(value, true, "o", color=BLUE, markersize=4)
    axes.plot((0, 1), (0, 1), color=GREY, linestyle="--")
    least = float(min(np.nanmin(value), np.min(true)))
    lowest = max(0.0, least - 0.05)
    axes.set(xlabel="predicted Dice, 80 % interval", ylabel="Dice")
    axes.set(xlim=(lowest, 1.01), ylim=(lowest, 1.01))
    return styled_png(figure)


def intervals(low: Sequence[float], high: Sequence[float], true: Sequence[float]) -> bytes:
    """Draws intervals against the truth, in the order of the truth; those that miss in orange."""
    figure = new_figure(4.6, 3.2)
    axes = figure.subplots()
    order = np.argsort(true, kind="stable")
    bottom, top, y = (np.array(of, np.float64)[order] for of in (low, high, true))
    held, place = (bottom <= y) & (y <= top), np.arange(len(y))
    for which, colour in ((held, BLUE), (~held, ORANGE)):
        axes.vlines(place[which], bottom[which], top[which], color=colour, linewidth=1.5)
    axes.plot(place, y, ".", color="black", markersize=3, label="truth")
    axes.set(xlabel="pictures", ylabel="80 % interval")
    axes.legend(frameon=False)
    return styled_png(figure)
