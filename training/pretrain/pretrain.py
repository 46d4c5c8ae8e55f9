"""The pretraining run: curriculum, checkpoints that resume bit for bit, probes that choose the checkpoint, a loss
curve.

A run is a list of segments of `probe_every` steps. Within a segment the stage is fixed and batch i is a function of
(seed, data, stage, i), so a killed run repeats its data order. When the data changed between two starts, the manifest
in the checkpoint says at which step.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from training.pretrain import charla, corpus
from training.pretrain.batches import STAGES, Batch, Encoder, Stream
from training.pretrain.growth import grown
from training.pretrain.loader import batches
from training.pretrain.network import PretrainGPTJ
from training.pretrain.optimizer import MixedOptimizer
from training.pretrain.probes import Probes
from training.pretrain.progress import Progress, draw
from training.pretrain.schedule import Recipe, at_boundary, learning_rate_factor, n_layer_at, next_stage, segment_end

logger = logging.getLogger(__name__)


def head_loss(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy of hidden (P, D) against labels (P,)."""
    logits = (F.linear(hidden, weight) + bias).float()
    return (F.cross_entropy(logits, labels, reduction="none") * weights).sum() / weights.sum()


class Run:
    """One pretraining run in a folder: `train` goes on from the last checkpoint to the recipe's end."""

    def __init__(
        self,
        work: Path,
        recipe: Recipe,
        *,
        charla_folder: Path = charla.FOLDER,
        device: str = "cpu",
        compiled: bool = True,
        workers: int = 1,
    ) -> None:
        self.work, self.recipe, self.device, self.compiled, self.workers = work, recipe, device, compiled, workers
        self.checkpoint = work / "run" / "latest.pt"
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        vocabulary = work / "tokenizer.model"
        data, prose = charla.load(charla_folder), corpus.read_prose(work)
        self.files = {**data.sources, "tokenizer.model": hashlib.sha256(vocabulary.read_bytes()).hexdigest()}
        self.files |= {
            f"{name}.txt": hashlib.sha256("\f".join(texts).encode()).hexdigest() for name, texts in prose.items()
        }
        encoder = Encoder(vocabulary)
        self.stream = Stream(encoder, data, prose, recipe.seed)
        self.probes = Probes(data, encoder)
        self.build(n_layer_at(0, recipe))
        self.head_loss = torch.compile(head_loss, dynamic=False) if compiled else head_loss
        self.progress = Progress()
        self.stopping = False
        if self.checkpoint.exists():
            self.load()
        made_from = {"files": self.files, "recipe": asdict(recipe)}
        if not self.progress.data or self.progress.data[-1] != {"step": self.progress.data[-1]["step"], **made_from}:
            self.progress.data.append({"step": self.progress.step, **made_from})

    # --- the network ----------------------------------------------------------------------------------------------

    def build(self, n_layer: int, weights: dict[str, Tensor] | None = None) -> None:
        """A network of `n_layer` layers with these weights (default: fresh ones) and an optimizer that knows nothing
        yet.
        """
        recipe, shape = self.recipe, replace(self.recipe.shape, n_layer=n_layer)
        torch.manual_seed(recipe.seed)
        fresh = PretrainGPTJ(shape, recipe.seed, recipe.dropout)
        master = weights or {name: parameter.detach().clone() for name, parameter in fresh.named_parameters()}
        master = {name: values.to(self.device) for name, values in master.items()}
        self.model = fresh.to(self.device, torch.bfloat16)
        self.model.cos, self.model.sin = self.model.cos.float(), self.model.sin.float()
        rates = {"matrix_lr": recipe.matrix_lr, "table_lr": recipe.table_lr, "vector_lr": recipe.vector_lr}
        self.optimizer = MixedOptimizer(
            self.model, master, weight_decay=recipe.weight_decay, compiled=self.compiled, **rates
        )
        self.hidden = torch.compile(self.model.hidden, dynamic=False) if self.compiled else self.model.hidden

    def grow(self) -> None:
        """To the layers that the recipe wants from this step on."""
        wanted = n_layer_at(self.progress.step, self.recipe)
        if self.model.shape.n_layer < wanted:
            self.build(wanted, grown(self.optimizer.state_dict()["master"], wanted))
            logger.info("step %d: %d layers from here on", self.progress.step, wanted)

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def save(self, path: Path | None = None) -> None:
        """Atomic: the file is complete or is not there."""
        path = path or self.checkpoint
        made = {"recipe": asdict(self.recipe), "shape": self.model.shape.as_dict()}
        state = {**made, "progress": asdict(self.progress), **self.optimizer.state_dict()}
        partial = path.with_suffix(".partial")
        with partial.open("wb") as handle:
            torch.save(state, handle)
            handle.flush()
            os.fsync(handle.fileno())
        partial.rename(path)
        (path.parent / "progress.json").write_text(json.dumps(asdict(self.progress), indent=1))

    def load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
        saved, wanted = state.get("shape", state["recipe"]["shape"]), self.recipe.shape.as_dict()
        depths = {self.recipe.first_layers, wanted["n_layer"]}
        if saved not in [{**wanted, "n_layer": n_layer} for n_layer in depths]:
            raise ValueError(f"{self.checkpoint} holds shape {saved}, the recipe wants {wanted}; use another folder")
        self.build(saved["n_layer"], state["master"])
        self.optimizer.load_state_dict(state)
        self.progress = Progress(**state["progress"])
        logger.info(
            "resumed at step %d of %d, stage %s", self.progress.step, self.recipe.total_steps, self.progress.stage
        )

    # --- training -------------------------------------------------------------------------------------------------

    def step(self, batch: Batch) -> Tensor:
        """Forward, backward, update; the loss as a tensor, so that nothing waits for it."""
        batch = batch.to(self.device)
        torch.manual_seed(self.recipe.seed + self.progress.step)  # what is dropped depends on the step alone
        hidden = self.hidden(batch.input_ids, batch.position_ids, batch.documents)
        chosen = hidden.flatten(0, 1).index_select(0, batch.positions)
        loss = self.head_loss(chosen, self.model.lm_head.weight, self.model.lm_head.bias, batch.labels, batch.weights)
        loss.backward()
        done, recipe = self.progress.step, self.recipe
        self.optimizer.step(learning_rate_factor(done, recipe))
        return loss.detach()

    def segment(self, last: int) -> None:
        """Trains up to step `last` in the present stage, or less when the run is told to stop."""
        started, begun, recent = time.monotonic(), self.progress.step, []
        stage = STAGES[self.progress.stage]
        for batch in batches(self.stream, stage, begun, last, self.recipe, self.workers):
            recent.append(self.step(batch))
            self.progress.step += 1
            self.progress.tokens += batch.num_tokens
            if self.progress.step % 50 == 0:
                loss = torch.stack(recent).mean().item()
                self.progress.losses.append((self.progress.step, loss))
                recent = []
                pace = (time.monotonic() - started) / (self.progress.step - begun)
                self.report(loss, pace)
            if self.stopping:
                break
        self.progress.seconds += time.monotonic() - started

    def report(self, loss: float, seconds_per_step: float) -> None:
        left = (self.recipe.total_steps - self.progress.step) * seconds_per_step
        logger.info(
            "step %d/%d %s loss %.3f %.1f M tokens %.0f tok/s, %d min left",
            self.progress.step,
            self.recipe.total_steps,
            self.progress.stage,
            loss,
            self.progress.tokens / 1e6,
            self.recipe.num_tokens / seconds_per_step,
            left / 60,
        )

    def probe(self) -> dict[str, float]:
        started = time.monotonic()
        figures = {"step": self.progress.step, "tokens": self.progress.tokens, **self.probes.measure(self.model)}
        self.progress.probes.append(figures)
        shown = " ".join(f"{name} {value:.3f}" for name, value in figures.items() if name not in ("step", "tokens"))
        logger.info("probe %d (%.0f s): %s", self.progress.step, time.monotonic() - started, shown)
        return figures

    def look_around(self) -> None:
        """At a boundary: probe, unless that was done before a restart, and choose the stage that follows."""
        progress = self.progress
        if progress.step and (not progress.probes or progress.probes[-1]["step"] != progress.step):
            self.probe()
        copied = progress.probes[-1]["copy_next"] if progress.probes else 0.0
        progress.stage = next_stage(progress.stage, progress.step, self.recipe, copied)
        self.save()
        draw(progress, self.checkpoint.parent / "loss.png")

    def train(self) -> Progress:
        """Runs to the end, or until SIGTERM or Ctrl-C, after which the same call goes on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        while not self.stopping:
            if at_boundary(self.progress.step, self.recipe):
                self.look_around()
                self.grow()
            if self.progress.step >= self.recipe.total_steps:
                break
            self.segment(segment_end(self.progress.step, self.recipe))
            self.save()
        return self.progress

    def stop(self, *_: object) -> None:
        self.stopping = True


def run(
    *,
    work: Path = corpus.WORK,
    recipe: Recipe | None = None,
    device: str = "cpu",
    threads: int = 2,
    compiled: bool = True,
    workers: int = 1,
) -> Progress:
    """Trains (or goes on training) the embedded model in `<work>/run`.

    Needs what the corpus and tokenizer commands left in `work`; SIGTERM or Ctrl-C ends it after a step, to be resumed.
    """
    torch.set_num_threads(threads)
    return Run(work, recipe or Recipe(), device=device, compiled=compiled, workers=workers).train()
