"""Draws the comparison as an SVG by hand: one bar per subject and row, the ratio to native on a logarithmic scale."""

import html
import math

COLOURS = ["#4e79a7", "#76b7b2", "#e15759", "#f28e2b", "#b07aa1", "#59a14f", "#edc948", "#9c755f"]
LABEL, PLOT, BAR, GAP, TOP = 380, 560, 11, 10, 70


def _ratio(results, row, column, higher_is_better):
    """How many times slower (or larger) than native; without a native value, than the first subject that has one."""
    suffix = ", pinned" if column.endswith(", pinned") else ""
    value = results.get(column, {}).get(row)
    base = results.get("native" + suffix, {}).get(row)
    if base is None:
        same = [name for name in results if name.endswith(", pinned") == bool(suffix) and row in results[name]]
        base = results[same[0]][row] if same else None
    if not value or not base:
        return None
    return base / value if row in higher_is_better else value / base


def draw(results, rows, columns, higher_is_better, title):
    columns = [column for column in columns if column in results and not column.startswith("native")]
    groups = []
    for row, text in rows.items():
        bars = [(column, _ratio(results, row, column, higher_is_better)) for column in columns]
        bars = [(column, ratio) for column, ratio in bars if ratio]
        if bars:
            groups.append((row, text, bars))
    ratios = [ratio for _, _, bars in groups for _, ratio in bars] or [1]
    low, high = math.floor(math.log10(min(ratios + [1]))), math.ceil(math.log10(max(ratios + [10])))

    def x(ratio):
        return LABEL + (math.log10(ratio) - low) / (high - low) * PLOT

    out, y = [], TOP + 18 * ((len(columns) + 2) // 3)
    start = y
    for row, text, bars in groups:
        middle = y + len(bars) * BAR / 2 + 4
        out.append(f'<text x="{LABEL - 8}" y="{middle:.0f}" text-anchor="end">{html.escape(text)}</text>')
        for column, ratio in bars:
            left, right = sorted((x(1), x(ratio)))
            value = results[column][row]
            out.append(f'<rect x="{left:.1f}" y="{y}" width="{max(right - left, 1):.1f}" height="{BAR - 1}" '
                       f'fill="{COLOURS[columns.index(column) % len(COLOURS)]}"><title>{html.escape(column)}: '
                       f'{value:.4g} (×{ratio:.3g})</title></rect>')
            out.append(f'<text x="{right + 4:.1f}" y="{y + BAR - 2}" font-size="9">{ratio:.2g}</text>')
            y += BAR
        y += GAP
    grid = []
    for power in range(low, high + 1):
        at = x(10.0 ** power)
        grid.append(f'<line x1="{at:.1f}" y1="{start - 6}" x2="{at:.1f}" y2="{y}" stroke="{"#444" if power == 0 else "#ddd"}"/>'
                    f'<text x="{at:.1f}" y="{start - 10}" text-anchor="middle" font-size="10">×{10.0 ** power:g}</text>')
    legend = []
    for i, column in enumerate(columns):
        left, top = 20 + i % 3 * 300, 44 + i // 3 * 18
        legend.append(f'<rect x="{left}" y="{top - 9}" width="12" height="10" fill="{COLOURS[i % len(COLOURS)]}"/>'
                      f'<text x="{left + 18}" y="{top}">{html.escape(column)}</text>')
    width = LABEL + PLOT + 60
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 20}" font-family="sans-serif" '
            f'font-size="11"><rect width="100%" height="100%" fill="white"/>'
            f'<text x="20" y="18" font-size="13">Cost as a multiple of native (of the first subject where there is no '
            f'native); shorter is better</text><text x="20" y="32" font-size="9">{html.escape(title)}</text>'
            + "".join(legend + grid + out) + "</svg>\n")
