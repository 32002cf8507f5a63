"""Explorers: figures of a few numbers, static for the page and with sliders for JupyterLab.

`draw_*` draws the static figure, `explore_*` the same figure under sliders. When headless
(LRC_HEADLESS=1), `explore_*` builds no widget: it returns HTML whose buttons show some positions.
"""

from lrc_lib.course.explorers.cases import draw_cases, explore_cases
from lrc_lib.course.explorers.cos_nce import (
    animate_paths,
    draw_cos_nce,
    draw_paths,
    explore_cos_nce,
)
from lrc_lib.course.explorers.negatives import draw_negatives, explore_negatives
from lrc_lib.course.explorers.perturbation import (
    draw_perturbation,
    explore_perturbation,
    perturbation_walks,
)
from lrc_lib.course.explorers.stages import draw_stages, explore_stages

__all__ = [
    "animate_paths",
    "draw_cases",
    "draw_cos_nce",
    "draw_negatives",
    "draw_paths",
    "draw_perturbation",
    "draw_stages",
    "explore_cases",
    "explore_cos_nce",
    "explore_negatives",
    "explore_perturbation",
    "explore_stages",
    "perturbation_walks",
]
