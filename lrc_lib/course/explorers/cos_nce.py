"""COS-NCE on a circle and on a sphere: student, teacher and negatives, and where the loss leads.

Every loss is the library's own, on a handful of vectors. Taught in
notebooks/01_cos_nce_geometry.
"""

import base64
import functools
import io
from typing import NamedTuple

import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from PIL import Image

from lrc_lib.course.display import escaped
from lrc_lib.course.explorers.sliders import explorer, positions, steps
from lrc_lib.course.palette import BLACK, BLUE, GREEN, GREY, VERMILION
from lrc_lib.losses import cos_nce

CAMERA = 25  # degrees above the equator
STEP = 5  # degrees, of a slider
FRAMES = 40  # of an animation


def fan(centre: float, spread: float, count: int = 15) -> np.ndarray:
    """Directions in the plane: `count` unit vectors, evenly over `spread` degrees about `centre`.

    Args:
        centre, spread: degrees.
        count: K >= 1.

    Returns:
        (K, 2).

    Taught in: notebooks/01_cos_nce_geometry.
    """
    angles = centre + (np.linspace(-spread / 2, spread / 2, count) if count > 1 else np.zeros(1))
    return np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1)


def frame(direction: float, height: float) -> np.ndarray:
    """East, north and outwards at a point of the unit sphere: (3, 3), one unit vector per row."""
    a, b = np.radians([direction, height])
    east = np.array([-np.sin(a), np.cos(a), 0.0])
    out = np.array([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)])
    return np.stack([east, np.cross(out, east), out])


def angle(x, y) -> float:
    """The angle between two vectors, in degrees."""
    cosine = x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def losses(students, teacher, negatives) -> torch.Tensor:
    """Eq. (1) for students (n, D), one teacher (D,) and negatives (K, D) of any length: (n,)."""
    z, t, n = map(torch.as_tensor, (students, teacher, negatives))
    return cos_nce(z, t.expand_as(z), n.expand(len(z), *n.shape), reduction="none")


def optimum(teacher, negatives) -> np.ndarray:
    """The direction u* at which Eq. (1) is smallest, for unit vectors (D,) and (K, D): (D,)."""
    best = 1.5 * teacher - 0.5 * negatives.mean(0)
    return best / np.linalg.norm(best)


def ways_down(student, teacher, negatives) -> dict[str, np.ndarray]:
    """The negative gradients of Eq. (1) and of the MSE at a student (D,): two vectors (D,)."""
    z = torch.tensor(student, requires_grad=True)
    mse = (z - torch.as_tensor(teacher)).square().mean()
    both = {"COS-NCE": losses(z[None], teacher, negatives).sum(), "MSE": mse}
    return {name: -torch.autograd.grad(loss, z)[0].numpy() for name, loss in both.items()}


class Scene(NamedTuple):
    """The vectors that the controls ask for: (3, D) camera, (D,) student, (D,) teacher, (K, D)."""

    camera: np.ndarray
    student: np.ndarray
    teacher: np.ndarray
    negatives: np.ndarray

    def loss(self, students):
        return losses(students, self.teacher, self.negatives)


def scene(
    space="circle", student=40, height=30, length=1.0, teacher=0, negatives=70, spread=60,
    count=15, turn=20,
) -> Scene:  # fmt: skip
    """The sphere has the circle as its equator, and teacher and negatives stay on it.

    The loss sees only the mean negative, and that spans a plane with the teacher.

    Args:
        space: "circle" or "sphere".
        student, teacher, negatives, spread: degrees along the circle.
        height, turn: of the student above the equator and of the camera around it, in degrees;
            they matter on the sphere only.
        count: K.
        length: of the student.
    """
    flat = space == "circle"
    camera = np.eye(3, 2) if flat else frame(turn, CAMERA)  # (3, D): side, up, towards the viewer
    equator = np.eye(2, camera.shape[1])
    z = fan(student, 0, 1)[0] if flat else frame(student, height)[2]
    others = fan(negatives, spread, count) @ equator
    return Scene(camera, length * z, fan(teacher, 0, 1)[0] @ equator, others)


def cos_nce_at(axes, **values) -> str:
    """Draws a `scene` of these values on the first of two axes, its loss on the second."""
    camera, z, t, n = here = scene(**values)
    best, loss = optimum(t, n), here.loss
    vectors = {  # smaller and smaller markers, so that none hides another one
        "optimum u*": (best, GREEN, "-.", "D", 9),
        "mean negative": (n.mean(0), VERMILION, "--", "s", 7),
        "teacher": (t, BLUE, "-", "o", 5.5),
        "student": (z, BLACK, "-", "^", 5.5),
    }
    if len(t) == 3:
        _draw_level_lines(axes[0], camera, loss)
    _draw_vectors(axes[0], camera, vectors, n)
    _draw_ways_down(axes[0], camera, z, ways_down(z, t, n))
    _draw_wave(axes[1], vectors, best, loss)
    now, lowest, at_teacher = loss(np.stack([z, best, t])).tolist()
    return (
        f"On the {values.get('space', 'circle')}, COS-NCE is {now:.3f} for the student, "
        f"{at_teacher:.3f} at the teacher and {lowest:.3f} at the optimum u*, the bottom of the "
        f"wave. The student is {angle(z, best):.0f}° from u*, the teacher {angle(t, best):.1f}°. "
        f"MSE of student and teacher: {np.square(z - t).mean():.3f}."
    )


def downhill(**values) -> dict:
    """The same values with the student one step of 5° down the loss, or as they are."""
    moves = [values]
    for turn in (-STEP, STEP):
        around = (values["student"] + turn + 180) % 360 - 180
        moves.append(values | {"student": around})
        if values["space"] == "sphere" and abs(values["height"] + turn) <= 90:
            moves.append(values | {"height": values["height"] + turn})
    heights = [float(here.loss(here.student[None])) for here in (scene(**m) for m in moves)]
    return moves[int(np.argmin(np.round(heights, 9)))]


def challenge(**values) -> str:
    """How far u* is from the teacher, of the most that is possible, as HTML."""
    here = scene(**values)
    away, most = angle(optimum(*here[2:]), here.teacher), np.degrees(np.arcsin(1 / 3))
    done = " Done: the negatives agree with each other." if away >= 19 else ""
    return (
        f"<p><b>Challenge:</b> push u* 19° away from the teacher by the negatives alone. Now "
        f"{away:.1f}°; score {100 * away / most:.0f} of 100.{done}</p>"
    )


def draw_paths(paths: dict, teacher, negatives) -> Figure:
    """Paths of students over a sphere, one panel per loss, with the level lines of that loss.

    Args:
        paths: {title: (loss, path)}, with a function (n, 3) -> (n,) and an array (steps, S, 3) of
            unit vectors, one path for each of S starts.
        teacher, negatives: (3,) and (K, 3), of length 1.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    return _paths(paths, teacher, negatives)[0]


def animate_paths(paths: dict, teacher, negatives, alt: str) -> HTML:
    """The figure of `draw_paths` (same arguments) as a GIF: the students walk, over and over.

    It stands in an open fold, which a reader closes to stop the motion. `alt` is its alt text.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    fig, walks = _paths(paths, teacher, negatives)
    frames, steps = [], max(len(path) for _, path in paths.values())
    for end in np.linspace(1, steps, FRAMES).astype(int):
        for walk in walks:
            walk(end)
        png = io.BytesIO()
        fig.savefig(png, format="png", dpi=80)
        fig.set_layout_engine("none")  # the layout of the first frame stays
        frames.append(Image.open(png).convert("P", palette=Image.Palette.ADAPTIVE, colors=64))
    gif, look = io.BytesIO(), {"duration": [80] * (len(frames) - 1) + [2000], "loop": 0}
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:], **look)
    source = f"data:image/gif;base64,{base64.b64encode(gif.getvalue()).decode()}"
    image = f'<img src="{source}" alt="{escaped(alt)}" width="{96 * fig.get_figwidth():.0f}">'
    fold = "<details open><summary>Animation (close it to stop)</summary>"
    return HTML(f'{fold}<div class="wide">{image}</div></details>')


def _paths(paths, teacher, negatives):
    """The figure, and a function for each path that draws its first steps only."""
    fig, camera, walks = Figure(figsize=(9.6, 3.7), layout="constrained"), frame(15, CAMERA), []
    axes = fig.subplots(1, len(paths), squeeze=False)[0]
    vectors = {"optimum of COS-NCE": (optimum(teacher, negatives), GREEN, "-.", "D", 9)}
    vectors["teacher"] = (teacher, BLUE, "-", "o", 5.5)
    for ax, (title, (loss, path)) in zip(axes, paths.items(), strict=True):
        _draw_level_lines(ax, camera, loss)
        _draw_vectors(ax, camera, vectors, negatives)
        for walk in np.swapaxes(path, 0, 1):
            x, y, depth = seen = camera @ walk.T
            (whole,) = ax.plot(x, y, color=BLACK, ls=":", lw=1)  # dotted on the far side
            (near,) = ax.plot(x, np.where(depth < 0, np.nan, y), color=BLACK, ls="-")
            ax.plot(x[0], y[0], "^", color=BLACK, mfc="white" if depth[0] < 0 else BLACK)
            walks.append(functools.partial(_walk, whole, near, seen))
        near.set_label("path of a student")
        ax.set_title(title, fontsize=9)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig, walks


def _walk(whole, near, seen, end):
    x, y, depth = seen[:, :end]
    whole.set_data(x, y)
    near.set_data(x, np.where(depth < 0, np.nan, y))


def _draw_level_lines(ax, camera, loss):
    """Lines of equal loss on the side of the sphere that faces the viewer."""
    radius, turn = np.meshgrid(np.linspace(0, 1, 31), np.radians(np.linspace(0, 360, 49)))
    x, y = radius * np.cos(turn), radius * np.sin(turn)
    points = np.stack([x, y, np.sqrt(1 - radius**2)], axis=-1) @ camera
    levels = loss(torch.from_numpy(points.reshape(-1, 3))).reshape(x.shape)
    ax.contour(x, y, levels, 15, colors="#9a9a9a", linewidths=0.8, linestyles="-")


def _draw_vectors(ax, camera, vectors, negatives):
    """Vectors as the viewer sees them; hollow markers lie on the far side of the sphere."""
    ax.plot(*fan(180, 360, 73).T, color=GREY, lw=1, ls="-")
    x, y, depth = camera @ negatives.T
    look = {"fc": np.where(depth < 0, "white", VERMILION), "ec": VERMILION, "zorder": 2}
    ax.scatter(x, y, 16, marker="s", label="negatives", **look)
    for name, (vector, colour, line, marker, size) in vectors.items():
        x, y, depth = camera @ vector
        look = {"ms": size, "mfc": "white" if depth < 0 else colour, "label": name}
        ax.plot([0, x], [0, y], color=colour, ls=line, marker=marker, markevery=[1], **look)
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.15, 1.15), aspect="equal")
    ax.axis("off")


def _draw_ways_down(ax, camera, student, ways):
    """Arrows half as long as the gradients, from the student."""
    look = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.012, "lw": 1, "zorder": 4}
    for (name, way), face in zip(ways.items(), (BLACK, "white"), strict=True):
        ax.quiver(*(camera @ student)[:2], *(camera @ way)[:2] / 2, fc=face, ec=BLACK, **look)
        ax.plot([], [], ">", color=BLACK, mfc=face, label=f"way down, {name}")


def _draw_wave(ax, vectors, best, loss):
    if len(best) == 2:
        angles, name = np.linspace(-180, 180, 121), "direction of the student\n(degrees)"
        walk, place = fan(0, 360, 121), lambda v: np.degrees(np.arctan2(v[1], v[0]))
    else:  # from u* over the pole
        angles, name = np.linspace(0, 180, 61), "angle from the optimum u*\n(degrees)"
        walk, place = fan(90, 180, 61) @ [best, (0, 0, 1)], functools.partial(angle, best)
    ax.plot(angles, loss(walk), color=BLACK, ls="-")
    for vector, colour, _, marker, size in vectors.values():
        if np.linalg.norm(vector) > 1e-6:  # negatives all round have no mean direction
            look = {"color": colour, "ms": size, "clip_on": False, "zorder": 3}
            ax.plot(place(vector), loss(vector[None]), marker, **look)
    ends = angles[0], angles[-1]
    ax.set(xlim=ends, ylim=(0, 4), xticks=np.linspace(*ends, 5), xlabel=name, ylabel="COS-NCE")


def explore_cos_nce():
    """Sliders over student, teacher and negatives, on a circle or a sphere. (Eqs. 1 and 2)

    Returns:
        The widget; when headless, HTML with a button for each preset.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    around = range(-180, 180, STEP)
    controls = {
        "space": ("where", "circle", ("circle", "sphere")),
        "student": ("student's direction (°)", 40, around),
        "height": ("student's height (°)", 30, range(-90, 91, STEP)),
        "length": ("student's length", 1.0, steps(0.2, 1.3, 0.1)),
        "teacher": ("teacher's direction (°)", 0, around),
        "negatives": ("negatives' angle (°)", 70, around),
        "spread": ("negatives' spread (°)", 60, range(0, 361, 10)),
        "count": ("negatives K", 15, range(1, 32)),
        "turn": ("turn the sphere (°)", 20, around),
    }
    flat = controls.keys() - {"height", "turn"}
    return explorer(
        cos_nce_at, controls, PLACES,
        used=lambda space, **_: flat if space == "circle" else controls,
        below=challenge, downhill=downhill,
    )  # fmt: skip


PLACES = {
    "negatives to one side": {},
    "negatives all round": {"spread": 330},
    "negatives opposite the teacher": {"negatives": 180},
    "on the sphere": {"space": "sphere", "student": 75, "height": 35},
}


def draw_cos_nce(places: dict = PLACES):
    """Positions of `explore_cos_nce` as a figure: {title: values for `cos_nce_at`}, up to four.

    Taught in: notebooks/01_cos_nce_geometry.
    """
    return positions(cos_nce_at, places)
