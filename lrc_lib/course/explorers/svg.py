"""A `View` as an SVG string: sharp, readable by a screen reader, and quick enough for a slider.

matplotlib takes about a tenth of a second for such a picture, this a millisecond or two. All text
is escaped. The background is white in light and dark themes: the colours keep their contrast.
"""

import functools
import math

from lrc_lib.course.display import escaped
from lrc_lib.course.explorers.picture import Bars, Mark, Panel, View
from lrc_lib.course.palette import BLACK, GREY

WIDTH, HEIGHT = 400, 310  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 30, 46  # margins inside a panel
BARS_LEFT = 170
ROW, COLUMNS = 22, 4  # of the legend
DASHES = {"-": "", "--": "7 4", "-.": "8 3 2 3", ":": "2 3"}


def to_svg(view: View) -> str:
    """An `<svg>` element: the panels side by side, the legend under them."""
    width, legend = WIDTH * len(view.panels), view.legend
    rows = math.ceil(len(legend) / COLUMNS)
    height = HEIGHT + ROW * rows + (8 if rows else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escaped(view.alt)}" font-family="sans-serif" font-size="12" '
        f'style="width:100%;max-width:{width}px;height:auto;background:#fff">'
        f'<title>{escaped(view.alt)}</title><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for index, panel in enumerate(view.panels):
        drawn = _bars(panel) if isinstance(panel, Bars) else _panel(panel)
        parts.append(f'<g transform="translate({WIDTH * index},0)">{drawn}</g>')
    for index, (label, mark) in enumerate(legend.items()):
        x = 16 + (index % COLUMNS) * (width - 16) / COLUMNS
        y = HEIGHT + 12 + ROW * (index // COLUMNS)
        parts.append(_entry(x, y, label, mark))
    return "".join(parts) + "</svg>"


@functools.lru_cache(maxsize=256)
def ticks(low: float, high: float) -> tuple[float, ...]:
    """About five round numbers within the bounds."""
    from matplotlib.ticker import MaxNLocator

    slack = 1e-9 * (high - low)
    values = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return tuple(float(v) for v in values if low - slack <= v <= high + slack)


def _text(x, y, words, anchor="middle", size=12, colour="#222", more="") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}"{more}>{escaped(words)}</text>'
    )


def _line(x1, y1, x2, y2, colour, width=1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def _panel(panel: Panel) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - (6 if panel.plane else BOTTOM)
    (x0, x1), (y0, y1) = panel.x, panel.y
    across, up = (right - LEFT) / (x1 - x0), (bottom - TOP) / (y1 - y0)
    if panel.plane:
        across = up = min(across, up)
    middle = (LEFT + right) / 2, (TOP + bottom) / 2

    def place(x, y):
        return (
            middle[0] + across * (x - (x0 + x1) / 2),
            middle[1] - up * (y - (y0 + y1) / 2),
        )

    parts = [_text(LEFT, 18, panel.title, "start", 14)]
    if not panel.plane:
        parts += _axes(panel, place, right, bottom)
    x, y, width, height = LEFT - 8, TOP - 6, right - LEFT + 16, bottom - TOP + 12
    window = f'x="{x}" y="{y}" width="{width}" height="{height}"'  # a nested svg cuts at its edges
    parts.append(f'<svg {window} viewBox="{x} {y} {width} {height}">')
    parts += [_mark(mark, place) for mark in panel.marks]
    return "".join(parts) + "</svg>"


def _axes(panel, place, right, bottom):
    for value in ticks(*panel.y):
        _, y = place(0, value)
        yield _line(LEFT, y, right, y, "#ddd")
        yield _text(LEFT - 6, y + 4, f"{value:g}", "end")
    for value, words in (panel.xticks or {v: f"{v:g}" for v in ticks(*panel.x)}).items():
        x, _ = place(value, 0)
        yield _line(x, bottom, x, bottom + 4, GREY)
        yield _text(x, bottom + 17, words)
    yield _line(LEFT, bottom, right, bottom, GREY) + _line(LEFT, TOP, LEFT, bottom, GREY)
    yield _text((LEFT + right) / 2, bottom + 36, panel.xlabel)
    middle = (TOP + bottom) / 2
    turned = f' transform="rotate(-90 14 {middle})"'
    yield _text(14, middle, panel.ylabel, more=turned)


def _mark(mark: Mark, place) -> str:
    runs = [[]]
    for x, y in zip(mark.x, mark.y, strict=True):
        if x == x and y == y:
            runs[-1].append(place(float(x), float(y)))
        elif runs[-1]:
            runs.append([])
    parts = []
    if mark.line:
        parts += [_stroke(points, mark) for points in runs if len(points) > 1]
    if mark.arrow and len(runs[-1]) > 1:
        parts.append(_head(*runs[-1][-2:], mark.colour))
    if mark.marker:
        parts += [_symbol(x, y, mark) for points in runs for x, y in points]
    return "".join(parts)


def _stroke(points, mark) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = f' stroke-dasharray="{DASHES[mark.line]}"' if DASHES[mark.line] else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{mark.colour}" '
        f'stroke-width="{mark.width}"{dash}/>'
    )


def _head(start, tip, colour) -> str:
    (x, y), (dx, dy) = tip, (tip[0] - start[0], tip[1] - start[1])
    length = math.hypot(dx, dy)
    if length < 1:
        return ""
    dx, dy, size = dx / length, dy / length, min(10, length)
    corners = [(x, y)] + [
        (x - size * dx + side * size * dy / 2.4, y - size * dy - side * size * dx / 2.4)
        for side in (1, -1)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return f'<polygon points="{path}" fill="{colour}"/>'


def _symbol(x, y, mark) -> str:
    r = mark.size / 2
    fill = mark.colour if mark.filled else "#fff"
    look = f'fill="{fill}" stroke="{mark.colour}" stroke-width="1.4"'
    if mark.marker == "o":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:g}" {look}/>'
    shapes = {
        "s": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        "D": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
        "^": ((0, -1.2), (1.2, 1), (-1.2, 1)),
        "x": ((-1, -1), (1, 1), (0, 0), (-1, 1), (1, -1), (0, 0)),
    }
    corners = " ".join(f"{x + r * a:.1f},{y + r * b:.1f}" for a, b in shapes[mark.marker])
    return f'<polygon points="{corners}" {look}/>'


def _bars(panel: Bars) -> str:
    right, bottom = WIDTH - RIGHT - 56, HEIGHT - BOTTOM
    step = min(40, (bottom - TOP) / max(1, len(panel.rows)))
    parts = [_text(16, 18, panel.title, "start", 14)]
    for index, (name, value, words) in enumerate(panel.rows):
        top = TOP + 6 + index * step
        length = (right - BARS_LEFT) * min(1, max(0, value / panel.limit))
        parts += [
            _text(BARS_LEFT - 8, top + step * 0.36 + 4, name, "end", min(12, step * 0.8)),
            f'<rect x="{BARS_LEFT}" y="{top:.1f}" width="{length:.1f}" '
            f'height="{step * 0.72:.1f}" fill="{panel.colour}"/>',
            _text(BARS_LEFT + length + 6, top + step * 0.36 + 4, words, "start"),
        ]
    height = TOP + 6 + step * len(panel.rows)
    parts.append(_line(BARS_LEFT, TOP + 2, BARS_LEFT, height, BLACK))
    return "".join(parts)


def _entry(x, y, label, mark) -> str:
    line = Mark([0, 26], [0, 0], mark.colour, mark.line, arrow=mark.arrow, width=mark.width)
    dot = Mark([13], [0], mark.colour, "", mark.marker)
    drawn = _mark(line, lambda a, b: (x + a, y + b)) + _mark(dot, lambda a, b: (x + a, y + b))
    return drawn + _text(x + 33, y + 4, label, "start")
