"""Explorers: views computed from a few numbers, sliders for JupyterLab, static twins.

`explore_*` builds sliders, `draw_*` is its twin and always draws. Headless (LRC_HEADLESS=1) no
widget is built.
"""

from lrc_lib.course.explorers.cases import draw_cases, explore_cases
from lrc_lib.course.explorers.cos_nce import draw_cos_nce, explore_cos_nce, fan
from lrc_lib.course.explorers.negatives import draw_negatives, explore_negatives
from lrc_lib.course.explorers.perturbation import (
    draw_perturbation,
    explore_perturbation,
    perturbation_walks,
)
from lrc_lib.course.explorers.stages import draw_stages, explore_stages

__all__ = [
    "draw_cases",
    "draw_cos_nce",
    "draw_negatives",
    "draw_perturbation",
    "draw_stages",
    "explore_cases",
    "explore_cos_nce",
    "explore_negatives",
    "explore_perturbation",
    "explore_stages",
    "fan",
    "perturbation_walks",
]
