"""Several students trained as one model: one batch, one answer of the teacher, N students.

The students are of one shape and see the same batches; recipe, learning rate and start may
differ. Their weights lie in one tensor, (N, ...) for every layer, and the batch is repeated N
times along its rows, (N B, L), so that a stock BERT computes all of them at once; each layer gives
every student's part of the rows to that student's weights. What a step costs beside its
arithmetic, launches and Python, is paid once instead of N times.

Optimiser, checkpoints, logs and results stay a student's own, as if it had trained by itself. On a
CPU dropout is too: each student has its own generator, and its losses are the separate run's but
for rounding. On a GPU, and where `lrc_lib.dropout` cannot be used, the masks are other draws of the
same distribution.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrc_lib.losses import transformer_layer_loss
from lrc_lib.models import backbone
from lrc_lib.trainee import Trainee
from lrc_lib.training import Job, take_steps


class StackedLayer(nn.Module):
    """N layers of a kind. A parameter of theirs lies in one tensor; the `parts` have its views."""

    def __init__(self, parts: list[nn.Module]):
        super().__init__()
        self.parts = tuple(parts)  # in a tuple: no submodules
        for name in ("weight", "bias"):
            own = [getattr(part, name, None) for part in parts]
            self.register_parameter(name, None)
            if own[0] is not None:
                setattr(self, name, nn.Parameter(torch.stack([p.detach() for p in own])))
                for parameter, view in zip(own, getattr(self, name).data, strict=True):
                    parameter.data = view


class StackedLinear(StackedLayer):
    """N linear maps: (N B, ..., i) to (N B, ..., o)."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(len(self.weight), -1, x.shape[-1])
        weight = self.weight.transpose(1, 2)
        if self.bias is None:
            y = rows @ weight
        else:
            y = torch.baddbmm(self.bias.unsqueeze(1), rows, weight)
        return y.view(*x.shape[:-1], -1)


class StackedLayerNorm(StackedLayer):
    """N LayerNorms: (N B, ..., d) to the same shape."""

    def __init__(self, parts: list[nn.LayerNorm]):
        super().__init__(parts)
        self.eps = parts[0].eps

    def forward(self, x: Tensor) -> Tensor:
        rows = F.layer_norm(x, x.shape[-1:], eps=self.eps).view(len(self.weight), -1, x.shape[-1])
        return torch.addcmul(self.bias.unsqueeze(1), rows, self.weight.unsqueeze(1)).view(x.shape)


class StackedEmbedding(StackedLayer):
    """N embeddings: ids (N B, L) to (N B, L, d). They may be trimmed, all to the same words.

    `padding_idx` is not needed: no loss reaches a padded position, so its gradient is 0.
    """

    def __init__(self, parts: list[nn.Module]):
        super().__init__(parts)
        self.place = getattr(parts[0], "place", None)

    def forward(self, ids: Tensor) -> Tensor:
        ids = ids if self.place is None else self.place[ids]
        students, words, _ = self.weight.shape
        first = torch.arange(students, device=ids.device) * words
        ids = (ids.reshape(students, -1) + first.unsqueeze(1)).view(ids.shape)
        return F.embedding(ids, self.weight.flatten(0, 1))


STACKED = {"Linear": StackedLinear, "LayerNorm": StackedLayerNorm}
STACKED |= {"Embedding": StackedEmbedding, "TrimmedEmbedding": StackedEmbedding}


def stack_modules(modules: list[nn.Module]) -> nn.Module:
    """One module that computes all of these, which are alike; their parameters become its views."""
    stacked = copy.deepcopy(modules[0])
    for name, layer in modules[0].named_modules():
        kind = STACKED.get(type(layer).__name__)
        if kind is not None:
            stacked.set_submodule(name, kind([m.get_submodule(name) for m in modules]))
    return stacked


class Stack(Job):
    """Jobs of one `RunSpec.stack_key`, as one: what `take_steps` takes instead of a job.

    The weights of the jobs' models are parts of the stack's until `release`.
    """

    def __init__(self, jobs: list[Job]):
        first, maps = jobs[0], [job.projection for job in jobs]
        some = next((w for w in maps if w is not None), None)
        values = vars(first) | {"model": stack_modules([job.model for job in jobs])}
        if some is not None:  # a student without W borrows a copy that nothing trains
            maps = [copy.deepcopy(some) if w is None else w for w in maps]
            values["projection"] = stack_modules(maps)
        super().__init__(**values)
        self.modules.to(first.device).train()
        self.jobs, self.layers = jobs, list(_layers_with_reach(self))
        mse = [job.recipe.layer_loss == "mse" for job in jobs]
        self.mse, self._tensors = torch.tensor(mse, device=first.device), {}

    @property
    def generators(self) -> list[torch.Generator]:
        return [job.generator for job in self.jobs]

    @property
    def losses(self) -> list[str]:
        return sorted({job.recipe.layer_loss for job in self.jobs if job.projection is not None})

    def release(self) -> None:
        """Give every student weights of its own again."""
        for layer, _ in self.layers:
            for parameter in (p for part in layer.parts for p in part.parameters()):
                parameter.data = parameter.data.clone()

    def weights(self, step: int, total: int):
        """(alpha, beta, gamma), each a number a student, or 0 where no student has that loss."""
        each = zip(*(job.weights(step, total) for job in self.jobs), strict=True)
        return tuple(w if any(w) else 0 for w in each)

    def batch(self, rows):
        indices, batch = super().batch(rows)
        length = batch["input_ids"].shape[1]
        places = torch.arange(length, device=self.device).expand(len(indices), length)
        return indices, {k: self.repeated(v) for k, v in (batch | {"position_ids": places}).items()}

    def repeated(self, x: Tensor) -> Tensor:
        """(B, ...) to (N B, ...)."""
        return x.repeat(len(self.jobs), *[1] * (x.dim() - 1))

    def ask(self, indices, batch, weights):
        single = {name: value[: len(indices)] for name, value in batch.items()}
        taught = super().ask(indices, single, weights)
        if taught is None:
            return None
        states, pulls = ([*map(self.repeated, x)] for x in (taught.states, taught.pulls))
        return taught._replace(states=states, pulls=pulls, logits=self.repeated(taught.logits))

    def layer_loss(self, *states, **how) -> Tensor:
        rows = (transformer_layer_loss(*states, loss=loss, **how) for loss in self.losses)
        means = [self.average(x) for x in rows]
        return means[0] if len(means) == 1 else torch.where(self.mse, means[1], means[0])

    def average(self, rows: Tensor) -> Tensor:
        """(N B,) to (N,)."""
        return rows.view(len(self.jobs), -1).mean(1)

    def total(self, parts: dict, weights) -> Tensor:
        """(N,): each student's own sum of Eq. (6)."""
        terms = zip(weights, ("layers", "soft", "hard"), strict=True)
        return sum(self._tensor(w) * parts[name] for w, name in terms if w)

    def _tensor(self, numbers: tuple) -> Tensor:
        if numbers not in self._tensors:
            self._tensors[numbers] = torch.tensor(numbers, device=self.device)
        return self._tensors[numbers]

    def update(self, trainees: list[Trainee], step: int) -> None:
        weights = [job.weights(step, trainees[0].total) for job in self.jobs]
        for layer, reached_by in self.layers:
            for name, parameter in layer.named_parameters():
                gradient, parameter.grad = parameter.grad, None
                if gradient is None:
                    continue
                for part, own, w in zip(layer.parts, gradient, weights, strict=True):
                    reached = any(w[i] for i in reached_by)
                    getattr(part, name).grad = own if reached else None
        for trainee in trainees:
            trainee.update(step)

    def record(self, trainees: list[Trainee], step: int, rows, clean: dict, perturbed) -> None:
        for i, (job, trainee) in enumerate(zip(self.jobs, trainees, strict=True)):
            alpha, beta, gamma = job.weights(step, trainee.total)
            floor = alpha and "cos_nce" in job.losses
            has = {"loss": True, "layers": alpha, "floor": floor, "soft": beta, "hard": gamma}
            own = {name: values[i] for name, values in clean.items() if has[name]}
            trainee.record(step, rows, own, None if perturbed is None else perturbed[i])


def _layers_with_reach(stack: Stack):
    """Each stacked layer, and which of the losses (0 layers, 1 soft, 2 hard) reach its weights.

    A weight that none reaches gets no gradient at all, as in a separate run.
    """
    base, deepest = backbone(stack.model), max((m for m, _ in stack.pairs), default=0)
    taught = nn.ModuleList([base.embeddings, *base.encoder.layer[:deepest]])
    taught = {id(module) for module in taught.modules()}
    for module in stack.model.modules():
        if hasattr(module, "parts"):
            yield module, (0, 1, 2) if id(module) in taught else (1, 2)
    if stack.projection is not None:
        yield from ((module, (0,)) for module in stack.projection.maps)


def train_together(jobs: list[Job]) -> None:
    """Train jobs of one `RunSpec.stack_key`; each ends as `train` would have left it.

    A job's `generator` must be its own, in the state in which dropout is to begin.
    """
    trainees = [Trainee(job) for job in jobs]
    for start in sorted({trainee.start for trainee in trainees}):  # some may have been interrupted
        some = [trainee for trainee in trainees if trainee.start == start]
        stack = Stack([trainee.job for trainee in some])
        take_steps(stack, some)
        for trainee in some:
            trainee.finish()
        stack.release()
