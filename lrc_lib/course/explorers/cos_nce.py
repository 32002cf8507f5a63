"""COS-NCE on a circle and on a sphere: student, teacher and negatives, and where the loss leads.

Everything is the library's own loss on a handful of vectors. Taught in
notebooks/01_cos_nce_geometry.
"""

import numpy as np

from lrc_lib.course.explorers.controls import choice, explorer, headless, slider
from lrc_lib.course.explorers.picture import Mark, Panel, View
from lrc_lib.course.explorers.static import positions
from lrc_lib.course.explorers.vectors import at, basis, cap, degrees, fan, frame, losses, scene
from lrc_lib.course.palette import BLACK, BLUE, GREEN, GREY, VERMILION

CAMERA = 25  # degrees above the equator
PLANE = (-1.6, 1.6), (-1.35, 1.35)
RING = np.radians(np.linspace(0, 360, 73))
LOOKS = {
    "teacher": (BLUE, "-", "o"),
    "best": (GREEN, "-.", "D"),
    "mean": (VERMILION, "--", "s"),
    "student": (BLACK, "-", "^"),
}
NAMES = {"best": "optimum u*", "mean": "mean negative", "teacher": "teacher", "student": "student"}


def cos_nce_view(
    space="circle", student=40, teacher=0, negatives=70, spread=60, count=15, length=1.0,
    student_height=30, teacher_height=0, negatives_height=0, turn=20,
) -> View:  # fmt: skip
    """Left the vectors, right the loss around them.

    Args:
        space: "circle" or "sphere"; heights and `turn`, the camera's, count on the sphere only.
        student, teacher, negatives, spread, turn and heights: degrees.
        count: K. length: of the student.
    """
    if space == "circle":
        now = scene(length * at(student), at(teacher), fan(negatives, spread, count))
        panels = _circle(now), _around(now)
    else:
        now = scene(
            length * at(student, student_height),
            at(teacher, teacher_height),
            cap(negatives, negatives_height, spread, count),
        )
        panels = _sphere(now, turn), _away(now)
    off, bias = degrees(now.student, now.best), degrees(now.teacher, now.best)
    says = (
        f"COS-NCE of the student {now.loss:.3f}; at the teacher {now.at_teacher:.3f}; least, at "
        f"the optimum u*, {now.at_best:.3f}. The student is {off:.0f}° from u*, the teacher "
        f"{bias:.1f}°. MSE of student and teacher {now.mse:.3f}."
    )
    alt = (
        f"Left: on the {space}, arrows to the student, the teacher, the mean negative and the "
        "optimum, and from the student the ways down for COS-NCE and for the MSE. Right: "
        f"COS-NCE as a wave, the student at {now.loss:.2f}, its least value {now.at_best:.2f}."
    )
    return View(panels, says, alt)


def _arrows(now, place):
    """The vectors and the two ways down; `place` brings points (n, D) to the page."""
    origin = np.zeros_like(now.teacher)
    for field, (colour, line, marker) in LOOKS.items():
        x, y, near = place(np.stack([origin, getattr(now, field)]))
        yield Mark(x, y, colour, line)
        look = {"label": NAMES[field], "filled": bool(near[1])}
        yield Mark(x[1:], y[1:], colour, line, marker, **look)
    for down, colour, line, loss in (
        (now.down, BLACK, "-", "COS-NCE"),
        (now.mse_down, GREY, ":", "MSE"),
    ):
        x, y, _ = place(np.stack([now.student, now.student + down / 2]))
        yield Mark(x, y, colour, line, label=f"way down, {loss}", arrow=True)


def _negatives(now, place):
    x, y, near = place(now.negatives)
    for chosen, filled in ((near, True), (~near, False)):
        if chosen.any():
            look = {"label": "negatives", "filled": filled, "size": 5}
            yield Mark(x[chosen], y[chosen], VERMILION, "", "s", **look)


def _flat(points):
    return points[:, 0], points[:, 1], np.ones(len(points), dtype=bool)


def _circle(now):
    rim = Mark(np.cos(RING), np.sin(RING), GREY, "-", width=1)
    marks = [rim, *_negatives(now, _flat), *_arrows(now, _flat)]
    return Panel("on the circle", *PLANE, marks, plane=True)


def _sphere(now, turn):
    side, up, towards = frame(turn, CAMERA)

    def place(points):
        return points @ side, points @ up, points @ towards >= 0

    marks = [Mark(np.cos(RING), np.sin(RING), GREY, "-", width=1)]
    a, b, out = basis(now.best)
    for angle in (30, 60, 90, 120, 150):  # lines of one loss
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        ring = c * out + s * (np.cos(RING)[:, None] * a + np.sin(RING)[:, None] * b)
        x, y, near = place(ring)
        marks.append(Mark(np.where(near, x, np.nan), y, "#9a9a9a", "-", width=1))
        marks.append(Mark(np.where(near, np.nan, x), y, "#c8c8c8", ":", width=1))
    marks += [*_negatives(now, place), *_arrows(now, place)]
    title = "on the sphere: rings of one loss; hollow is behind"
    return Panel(title, *PLANE, marks, plane=True)


def _around(now):
    angles = np.linspace(-180, 180, 121)
    circle = np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1)
    names = "loss by the student's direction", "direction of the student (degrees)"
    return _wave(now, names, angles, circle, lambda v: np.degrees(np.arctan2(v[1], v[0])))


def _away(now):
    angles = np.linspace(0, 180, 61)
    aside, _, out = basis(now.best)
    walk = np.cos(np.radians(angles))[:, None] * out + np.sin(np.radians(angles))[:, None] * aside
    names = "loss by the angle from u*", "angle from the optimum u* (degrees)"
    return _wave(now, names, angles, walk, lambda v: degrees(v, now.best))


def _wave(now, names, angles, students, angle_of):
    marks = [Mark(angles, losses(students, now.teacher, now.negatives), BLACK, "-")]
    for field, (colour, _, marker) in LOOKS.items():
        vector = getattr(now, field)
        if np.linalg.norm(vector) > 1e-6:  # negatives all round have no mean direction
            loss = losses(vector[None], now.teacher, now.negatives)
            marks.append(Mark([angle_of(vector)], loss, colour, "", marker, size=10))
    (title, xlabel), ends = names, (angles[0], angles[-1])
    places = {v: f"{v:g}" for v in np.linspace(*ends, 5)}
    return Panel(title, ends, (0, 4), marks, xlabel, "COS-NCE", xticks=places)


def explore_cos_nce():
    """Sliders over student, teacher and negatives, on a circle or a sphere. (Eqs. 1 and 2)

    Returns:
        The widget, or None when headless; then one line says where the static figure is.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    if headless():
        return None
    controls = {"space": choice("where", ["circle", "sphere"])}
    for name, text, value, low, high, step in (
        ("student", "student's direction (degrees)", 40, -180, 180, 5),
        ("student_height", "student's height (degrees)", 30, -90, 90, 5),
        ("length", "student's length", 1.0, 0.2, 1.3, 0.1),
        ("teacher", "teacher's direction (degrees)", 0, -180, 180, 5),
        ("teacher_height", "teacher's height (degrees)", 0, -90, 90, 5),
        ("negatives", "negatives' direction (degrees)", 70, -180, 180, 5),
        ("negatives_height", "negatives' height (degrees)", 0, -90, 90, 5),
        ("spread", "negatives' spread (degrees)", 60, 0, 360, 10),
        ("count", "number of negatives K", 15, 1, 31, 1),
        ("turn", "turn the sphere (degrees)", 20, -180, 180, 5),
    ):
        controls[name] = slider(text, value, low, high, step)
    flat = [name for name in controls if "height" not in name and name != "turn"]
    return explorer(
        cos_nce_view, controls, lambda space, **_: flat if space == "circle" else controls
    )


def draw_cos_nce():
    """Four positions of `explore_cos_nce` as a figure.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    views = {
        "negatives to one side": cos_nce_view(),
        "negatives all round": cos_nce_view(spread=330),
        "negatives opposite the teacher": cos_nce_view(negatives=180),
        "on the sphere": cos_nce_view(
            "sphere", student=75, student_height=35, negatives_height=-20
        ),
    }
    return positions(views)
