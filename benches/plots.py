"""Draws the main figures of target/benchmarks.json into docs/: benchmarks-values.svg and benchmarks-statements.svg."""

import json
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
OURS, OTHERS, INK = "#0b6e4f", "#b08968", "#1f2328"
# An opaque, light ground: readable on light and on dark pages. No date and fixed ids, so that the same figures give the same file.
STYLE = {"figure.facecolor": "#ffffff", "axes.facecolor": "#ffffff", "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK,
         "ytick.color": INK, "axes.edgecolor": "#8c959f", "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "prism_crypt",
         "axes.spines.top": False, "axes.spines.right": False}


def plain(label):
    """A label of the tables without Markdown."""
    return re.sub(r"`|\*", "", label)


def bars(axes, labels, values, colours, form):
    """Horizontal bars, the first on top, each with its figure."""
    places = range(len(labels))[::-1]
    axes.barh(places, values, color=colours, height=0.7)
    axes.set_yticks(places, labels)
    for place, value in zip(places, values):
        axes.annotate(form(value), (value, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.margins(x=0.18)


def values(parts):
    """Time a value, ours and pgcrypto's, on a logarithmic scale: pgp_sym_encrypt is far off."""
    header, *rows = parts["values"]["rows"]
    times = {row[0]: row[1:] for row in rows if " / " not in row[0]}
    builds = [name.split(", ", 1)[1] for name in header[1::2]]
    figure, columns = plt.subplots(1, 2, figsize=(9, 2.9), sharey=True)
    for side, (axes, what) in enumerate(zip(columns, ("sealing", "opening"))):
        bars_of = []
        for label, row in times.items():
            if label.startswith("`encrypt_field`"):
                bars_of += [(f"prism_crypt, built {build} processor" if build == "for any" else f"prism_crypt, built {build}", float(row[2 * n + side]), OURS) for n, build in enumerate(builds)]
            elif label.startswith("pgcrypto"):
                name = "pgcrypto, key given (CBC)" if "iv" in label else "pgcrypto, passphrase (PGP)"
                bars_of.append((name, float(row[side]), OTHERS))
        labels, figures, colours = zip(*bars_of)
        bars(axes, labels, figures, colours, lambda value: f"{value:.2f}" if value < 10 else f"{value:,.0f}")
        axes.set_xscale("log")
        axes.set_xlabel("µs a value of 20 bytes")
        axes.set_title(what)
    return figure


def statements(parts):
    """What statements take with an encrypted column, as times of what they take with text."""
    found = [(f"COPY FROM, {plain(row[0])}", row[2]) for row in parts["copy"]["rows"][1:] if row[0] == "encrypted_text"]
    found += [(f"{plain(row[0])} by a hash index", row[3]) for row in parts["search_lookup"]["rows"][1:]]
    found += [(f"{plain(row[0])}, unique index", row[3]) for row in parts["search_unique"]["rows"][1:2]]
    found += [("rotation, beside the best plain UPDATE", row[3]) for row in parts["rotate"]["rows"][1:] if "rotate_batch('r', 'e', 5000)" in row[0]]
    figure, axes = plt.subplots(figsize=(9, 2.4))
    bars(axes, [label for label, _ in found], [float(times) for _, times in found], OURS, lambda value: f"{value:.2f}")
    axes.axvline(1, color="#8c959f", linestyle="--", linewidth=1)
    axes.set_xlabel("times as long as with text")
    return figure


def main():
    parts = json.loads((ROOT / "target/benchmarks.json").read_text(encoding="utf-8"))["parts"]
    with plt.rc_context(STYLE):
        for draw in (values, statements):
            figure = draw(parts)
            figure.savefig(ROOT / f"docs/benchmarks-{draw.__name__}.svg", bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
