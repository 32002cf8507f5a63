"""TextBrewer's GeneralDistiller on what it can do of LRC-BERT: no COS-NCE, no perturbation.

Hidden states by MSE on the same layers through a linear projection each, soft and hard labels.
It is given what its user could give it: dynamic padding, bfloat16, and (`cached`) a teacher that
looks its answers up. Optional: `pip install textbrewer tensorboard`.
"""

import logging
import os
import tempfile

import torch

os.environ.setdefault("TQDM_DISABLE", "1")
from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig  # noqa: E402

from lrc_lib.data.batches import collate  # noqa: E402
from lrc_lib.runs.device import autocast  # noqa: E402

from .reference import WEIGHTS, padded  # noqa: E402


class Lookup(torch.nn.Module):
    """A teacher in TextBrewer's sense that reads the cache."""

    def __init__(self, cached):
        super().__init__()
        self.cached = cached

    def forward(self, indices, **batch):
        taught = self.cached(indices.numpy(), batch)
        return {"logits": taught.logits, "hidden_states": taught.states}


class TextBrewer:
    """GeneralDistiller over some batches: `run` is one pass.

    Args:
        cached: the teacher looks its answers up.
        pad_to: as in `benchmarks.reference.PlainLrc`.
        precision: "fp32" or "bf16": autocast around each of its steps, without the backward pass.
    """

    def __init__(self, work, batches, cached=False, pad_to=0, precision="fp32"):
        logging.getLogger("Distillation").setLevel(logging.ERROR)
        self.work, self.batches, self.cached, self.pad_to = work, batches, cached, pad_to
        student, _ = work.student()
        width = (work.spec.student_hidden, work.teacher.config.hidden_size)
        alpha, beta, gamma = WEIGHTS
        matches = [
            dict(layer_S=s, layer_T=i if cached else t, feature="hidden", loss="hidden_mse",
                 weight=alpha, proj=["linear", *width])
            for i, (s, t) in enumerate(work.pairs)
        ]  # fmt: skip
        where = tempfile.mkdtemp(dir=work.folder)
        self.distiller = GeneralDistiller(
            TrainingConfig(
                device=work.device, output_dir=where, log_dir=None, ckpt_frequency=1,
                ckpt_epoch_frequency=10**6,
            ),
            DistillationConfig(
                temperature=1.1, kd_loss_weight=beta, hard_label_weight=gamma,
                intermediate_matches=matches,
            ),
            Lookup(work.cached) if cached else work.teacher, student.train(), _adapt, _adapt,
        )  # fmt: skip
        self.distiller.save_and_callback = lambda *args: None  # ours writes no checkpoint either
        plain = self.distiller.train_on_batch

        def train_on_batch(*args):
            with autocast(precision, work.device):
                return plain(*args)

        self.distiller.train_on_batch = train_on_batch

    def _loader(self):
        for indices in self.batches:
            batch = padded(collate(self.work.encoded, indices, self.work.device), self.pad_to)
            teacher = dict(batch) if not self.cached else batch | {"indices": torch.tensor(indices)}
            if not self.cached:
                teacher["output_hidden_states"] = True
            yield {"teacher": teacher, "student": batch | {"output_hidden_states": True}}

    def run(self):
        optimizer = torch.optim.AdamW(self.distiller.model_S.parameters(), lr=1e-4)
        with self.distiller:
            self.distiller.train(
                optimizer, _Sized(self._loader, len(self.batches)), num_epochs=1, max_grad_norm=1.0
            )


class _Sized:
    def __init__(self, make, length):
        self.make, self.length = make, length

    def __iter__(self):
        return self.make()

    def __len__(self):
        return self.length


def _adapt(batch, outputs):
    found = {"logits": outputs["logits"], "hidden": outputs["hidden_states"]}
    found["inputs_mask"] = batch["attention_mask"]
    if "loss" in outputs:
        found["losses"] = outputs["loss"]
    return found
