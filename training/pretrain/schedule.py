"""The plan of a run: its recipe, the curriculum's stages and the learning rate, as functions of the step alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.pretrain.batches import COPY, FINAL, TALK
from training.pretrain.network import Shape

COPY_GATE = 0.9  # share of unseen names right in the next turn before the first stage ends


@dataclass(frozen=True)
class Recipe:
    """Everything a run depends on besides the data."""

    total_steps: int = 12500
    num_tokens: int = 8192  # a step
    row: int = 256
    matrix_lr: float = 0.02
    table_lr: float = 0.004
    vector_lr: float = 0.004
    weight_decay: float = 0.1
    dropout: float = 0.0  # 0.1 only slowed the learning: with so many ways of asking there is nothing to overfit
    warmup_steps: int = 100
    decay_share: float = 0.5
    final_share: float = 0.15  # the last part: dialogue only
    grow_at: int = 6000  # from this step on the network has all its layers
    first_layers: int = 6  # and so many until then: a step costs two thirds
    longest_copy_stage: float = 0.25
    probe_every: int = 500
    seed: int = 1
    shape: Shape = field(default_factory=Shape)

    def __post_init__(self) -> None:
        if self.first_layers < 1 or (self.grow_at > 0 and self.shape.n_layer > 2 * self.first_layers):
            least = -(-self.shape.n_layer // 2)
            raise ValueError(f"first_layers is {self.first_layers}: expected {least} or more, half of the layers")


def learning_rate_factor(step: int, recipe: Recipe) -> float:
    """Warm-up (again where the network grows), a constant stretch, then a straight line to 1 % over the last
    `decay_share` of the run.
    """
    begun = recipe.grow_at if step >= recipe.grow_at and recipe.shape.n_layer > recipe.first_layers else 0
    left = (recipe.total_steps - step) / max(1, int(recipe.total_steps * recipe.decay_share))
    return min(1.0, (step - begun + 1) / recipe.warmup_steps, max(0.01, left))


def n_layer_at(step: int, recipe: Recipe) -> int:
    """How deep the network is at a step."""
    return recipe.shape.n_layer if step >= recipe.grow_at else min(recipe.first_layers, recipe.shape.n_layer)


def final_start(recipe: Recipe) -> int:
    return int(recipe.total_steps * (1 - recipe.final_share))


def next_stage(stage: str, step: int, recipe: Recipe, copied: float) -> str:
    """The curriculum: copy drills until unseen names come out right (or for a quarter of the run), then talk, then
    dialogue only.
    """
    if step >= final_start(recipe):
        return FINAL.name
    may_end = copied >= COPY_GATE or step >= recipe.total_steps * recipe.longest_copy_stage
    return COPY.name if stage == COPY.name and not may_end else TALK.name


def segment_end(step: int, recipe: Recipe) -> int:
    """The next boundary: a probe, growth, the beginning of the last stage, or the end."""
    stops = ((step // recipe.probe_every + 1) * recipe.probe_every, *fixed_stops(recipe))
    return min(stop for stop in stops if stop > step)


def at_boundary(step: int, recipe: Recipe) -> bool:
    """Whether the stage may change here; never within a segment, so that a restart cannot change it either."""
    return step % recipe.probe_every == 0 or step in fixed_stops(recipe)


def fixed_stops(recipe: Recipe) -> tuple[int, ...]:
    """The steps at which something changes in any run of this recipe."""
    return recipe.grow_at, final_start(recipe), recipe.total_steps
