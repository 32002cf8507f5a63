"""LRC-BERT as anyone would write it, and the same code with each saving switched on in turn.

With all savings off it is the reference: the teacher is asked at every step, COS-NCE compares every
row with every other, the perturbation runs two whole backward passes, AdamW is torch's default.
It is written to be read; `tests/test_benchmarks.py` holds its losses and gradients against those
of `lrc_lib.training`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lrc_lib.data.batches import collate
from lrc_lib.losses import (
    cos_nce_target,
    cos_nce_to,
    hard_label_loss,
    in_batch_cos_nce,
    soft_label_loss,
)
from lrc_lib.models import embeddings_replaced, trim_vocabulary
from lrc_lib.runs.device import autocast

WEIGHTS = (1, 1, 3)  # stage 2: every loss is at work


@dataclass(frozen=True)
class Savings:
    """What the library does and plain code does not.

    Attributes:
        cached_teacher: read the frozen teacher's answers instead of asking for them.
        closed_form: COS-NCE in O(B D) instead of all pairs, O(B^2 D).
        shared_pull: the teacher's part of COS-NCE once per step, not once per pass.
        narrow_backward: the first backward pass goes to the embeddings, not to the weights, and
            the second forward pass starts from the embeddings of the first.
        fused_adamw: torch's fused kernel.
        trimmed_vocabulary: only the word embeddings that occur in the data are trained.
        buckets: rows of like length in a batch; the caller orders them.
        cheap_dropout: fewer random bits, on a CPU; the caller enters its context.
    """

    cached_teacher: bool = False
    closed_form: bool = False
    shared_pull: bool = False
    narrow_backward: bool = False
    fused_adamw: bool = False
    trimmed_vocabulary: bool = False
    buckets: bool = False
    cheap_dropout: bool = False


def all_pairs_cos_nce(student: Tensor, teacher: Tensor) -> Tensor:
    """Eq. (1) with the other rows as negatives, from the (B, B) matrix of all cosines."""
    u, t = (nn.functional.normalize(x, dim=-1) for x in (student, teacher))
    distance = 1 - torch.einsum("id,jd->ij", u, t)
    positive = distance.diagonal()
    others = ~torch.eye(len(u), dtype=torch.bool, device=u.device)
    pushed = 2 - (distance - positive.unsqueeze(1))
    return ((pushed * others).sum(1) / (2 * others.sum(1)) + positive).mean()


def mean_cos_nce_to(student: Tensor, pull: Tensor) -> Tensor:
    """Eq. (1) from what `cos_nce_target` made of the teacher."""
    return cos_nce_to(student, pull).mean()


def padded(batch: dict, pad_to: int) -> dict:
    """A batch padded to `pad_to` tokens, if that is more than it has."""
    extra = max(0, pad_to - batch["input_ids"].shape[1])
    return {k: v if k == "labels" else nn.functional.pad(v, (0, extra)) for k, v in batch.items()}


class PlainLrc:
    """Trains `student` and `projection` in place, a batch a call.

    Args:
        teacher: the frozen model; `cached` its `lrc_lib.teacher.CachedTeacher` for these rows.
        pairs: 1-based (student layer, teacher layer).
        pad_to: pad every batch to this length; 0 pads to the batch's longest row.
        precision: "fp32" or "bf16" (autocast, once around all but the last backward pass).
    """

    def __init__(
        self, student, projection, teacher, cached, pairs, encoded, pad_to=0, savings=None,
        device="cpu", precision="fp32", learning_rate=1e-4,
    ):  # fmt: skip
        self.student, self.projection = student.to(device).train(), projection.to(device)
        self.teacher, self.cached = teacher.to(device).eval(), cached
        self.pairs, self.encoded, self.pad_to, self.device = pairs, encoded, pad_to, device
        self.savings, self.precision = savings or Savings(), precision
        if self.savings.trimmed_vocabulary:
            trim_vocabulary(student, [encoded.ids])
        self.parameters = [*student.parameters(), *projection.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=learning_rate, eps=1e-6, weight_decay=0.01,
            fused=self.savings.fused_adamw or None,
        )  # fmt: skip

    def __call__(self, indices) -> dict[str, Tensor]:
        """One step of stage 2 with gradient perturbation; the losses before and after it."""
        batch = padded(collate(self.encoded, indices, self.device), self.pad_to)
        with autocast(self.precision, self.device):
            clean, perturbed = self.losses(indices, batch)
        perturbed.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"clean": clean.detach(), "perturbed": perturbed.detach()}

    def losses(self, indices, batch) -> tuple[Tensor, Tensor]:
        """The loss before the embeddings are moved along its gradient, and after."""
        taught = self.ask(indices, batch)
        embeddings = self.embed(batch)
        clean = self.loss(batch, taught, embeddings)
        if self.savings.narrow_backward:
            (gradient,) = torch.autograd.grad(clean, embeddings)
        else:
            embeddings.retain_grad()
            clean.backward()
            gradient = embeddings.grad.clone()
            self.optimizer.zero_grad()
            embeddings = self.embed(batch)
        gradient = gradient * batch["attention_mask"].unsqueeze(-1)
        step = gradient / gradient.norm(dim=(1, 2), keepdim=True).clamp_min(1e-30)
        return clean, self.loss(batch, taught, embeddings + step)

    def embed(self, batch) -> Tensor:
        return self.student.bert.embeddings(batch["input_ids"], batch.get("token_type_ids"))

    def ask(self, indices, batch) -> tuple[list[Tensor], Tensor]:
        """What the student learns from: the teacher's states (or their pull), and its logits."""
        if self.savings.cached_teacher:
            states, logits = self.cached(indices, batch)[:2]
        else:
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            with torch.no_grad():
                output = self.teacher(**inputs, output_hidden_states=True)
            states, logits = [output.hidden_states[n] for _, n in self.pairs], output.logits
        real = batch["attention_mask"].unsqueeze(-1)
        states = [(state * real).flatten(1) for state in states]
        if self.savings.shared_pull:
            states = [cos_nce_target(state) for state in states]
        return states, logits

    def loss(self, batch, taught, embeddings) -> Tensor:
        states, logits = taught
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        with embeddings_replaced(self.student, embeddings):
            output = self.student(**inputs, output_hidden_states=True)
        cos_nce = in_batch_cos_nce if self.savings.closed_form else all_pairs_cos_nce
        if self.savings.shared_pull:
            cos_nce = mean_cos_nce_to
        real = batch["attention_mask"].unsqueeze(-1)
        layers = sum(
            cos_nce((self.projection(output.hidden_states[layer]) * real).flatten(1), state)
            for (layer, _), state in zip(self.pairs, states, strict=True)
        )
        alpha, beta, gamma = WEIGHTS
        soft = soft_label_loss(output.logits, logits)
        hard = hard_label_loss(output.logits, batch["labels"])
        return alpha * layers + beta * soft + gamma * hard
