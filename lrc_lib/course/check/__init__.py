"""Checks for the exercises of the notebooks: `check.ex_01_2(your_function)`.

Each takes the reader's function(s), prints one line that says "right" or names the mistake, and
returns a `Result`. A check never raises, whatever function it is given. There is one module for
each notebook; `core` holds what they share, `variants` trains what a reader has registered, and
`problems` makes the numbers of a graded set from a course's name.
"""

# ruff: noqa: F401

import re

from lrc_lib.course.check.core import Result
from lrc_lib.course.check.ex_00 import ex_00_1
from lrc_lib.course.check.ex_01 import ex_01_1, ex_01_2, ex_01_3, ex_01_4, ex_01_5, ex_01_6
from lrc_lib.course.check.ex_02 import ex_02_1, ex_02_2, ex_02_3
from lrc_lib.course.check.ex_03 import ex_03_1, ex_03_2, ex_03_3
from lrc_lib.course.check.ex_04 import (
    ex_04_1,
    ex_04_2,
    ex_04_3,
    ex_04_4,
    ex_04_5,
    ex_04_6,
    ex_04_7,
)
from lrc_lib.course.check.ex_05 import ex_05_1, ex_05_2, ex_05_3
from lrc_lib.course.check.ex_06 import ex_06_1, ex_06_2, ex_06_3
from lrc_lib.course.check.ex_07 import ex_07_1, ex_07_2, ex_07_3, ex_07_4
from lrc_lib.course.check.ex_08 import ex_08_1, ex_08_2, ex_08_3
from lrc_lib.course.check.ex_09 import ex_09_1, ex_09_2, ex_09_3, ex_09_4
from lrc_lib.course.check.problems import problem
from lrc_lib.course.check.variants import trained

__all__ = [name for name in dir() if re.fullmatch(r"ex_\d\d_\d|Result|problem|trained", name)]
