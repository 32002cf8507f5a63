"""Keeping the student of the best epoch of stage 2 by its dev score, instead of the last one.

Only stage 2 is looked at: in stage 1 the head is untrained. A score that was picked on dev is too
high on dev; the default of a run is therefore the last step. Taught in notebooks/09_glue_results.
"""

import os
from collections.abc import Callable
from pathlib import Path

import torch


class Best:
    """The weights at the end of the epoch that scored best so far; of equal ones the earliest.

    They wait in `best.pt` in the run's partial folder, where an interrupted run finds them again.

    Args:
        path: of that file.
        score: gives the dev score of the model as it stands; higher is better.
    """

    def __init__(self, path: Path, score: Callable[[], float]):
        self.path, self.score = path, score
        self.kept: dict = {}  # "score" and "step" of what is in the file

    def begin(self, resumed: bool) -> None:
        """Find what an interrupted run had kept, or start with nothing."""
        if resumed and self.path.exists():
            self.kept = self._read()
            del self.kept["modules"]
        else:
            self.path.unlink(missing_ok=True)

    def _read(self) -> dict:
        return torch.load(self.path, map_location="cpu", weights_only=True)

    def look(self, modules, done: int) -> float:
        """The dev score after `done` steps; the weights are kept if no earlier one was as good."""
        value = float(self.score())
        if not self.kept or value > self.kept["score"]:
            self.kept = {"score": value, "step": done}
            partial = self.path.with_suffix(".partial")
            weights = {name: value.clone() for name, value in modules.state_dict().items()}
            torch.save(self.kept | {"modules": weights}, partial)
            os.replace(partial, self.path)
        return value

    def restore(self, modules) -> None:
        """Put the kept weights back, and leave no file."""
        modules.load_state_dict(self._read()["modules"])
        self.path.unlink()
