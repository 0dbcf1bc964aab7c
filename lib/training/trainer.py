"""Fine-tuning with transformers' Trainer: weighted loss masks, Muon, the fast path, resuming.

Takes a model, a tokenizer, tokenized traces and a recipe; leaves a checkpoint folder that plain
transformers loads, and its loss curve. Knows nothing of any task. Source: section 3.2 and appendix
of the paper.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import Sampler
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from lib.base import files, hardware
from lib.base.errors import UserError
from lib.models.tokenizer import TokenizedTraces, save_tokenizer
from lib.profiles.recipe import Recipe
from lib.training import checkpoints
from lib.training.batches import EvenSampler, FilledTraces, collator
from lib.training.muon import MuonAdamW
from lib.training.packing import FLAT, flat_attention_fits
from lib.training.rounding import CHANGED, RoundedWeights

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1

LOADERS = 8  # processes that make batches for a GPU
CURVE = ["step", "examples", "loss"]
if hardware.device() == "cpu":  # or two warnings a model would say that there is no GPU
    logging.getLogger("transformers.training_args").setLevel(logging.ERROR)
    os.environ.setdefault("DS_ACCELERATOR", "cpu")


@dataclass(frozen=True)
class TrainingSpec:
    """One training: how to train, the seed of its order, and after how many steps a loss is told.

    A loss that is told is the mean since the last one. precision: "float32", or (None) bfloat16
    where the hardware is fast at it.
    """

    recipe: Recipe
    seed: int
    log_steps: int = 5
    precision: str | None = None


def weighted_loss(logits: Tensor, input_ids: Tensor, loss_weights: Tensor) -> Tensor:
    """Sum of weighted next-token losses. logits: [batch, length, vocab]; others [batch, length]."""
    losses = cross_entropy(
        logits[:, :-1].float().flatten(0, 1), input_ids[:, 1:].flatten(), reduction="none"
    )
    # Autocast would make a dot product's sum bfloat16.
    return (losses * loss_weights[:, 1:].flatten()).sum()


class WeightedTrainer(Trainer):
    """Trainer with a weight for each token's loss, normalised over the global batch."""

    recipe: Recipe

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if self.args.world_size == 1:
            return super()._get_train_sampler(train_dataset)
        return EvenSampler(self.train_dataset, self.recipe.batch_size, self.args.data_seed)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self.args.world_size > 1:  # the file that makes a checkpoint whole is written next
            torch.distributed.barrier()

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor | None:
        if not batch_samples:
            return None
        total = torch.stack([batch["loss_weights"][:, 1:].sum() for batch in batch_samples]).sum()
        if self.args.world_size > 1:
            total = self.accelerator.gather(total.to(device)).sum()
        return total.to(device).clamp(min=1e-8)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        weights = inputs["loss_weights"]
        # A packed batch has positions in place of a mask.
        fields = {key: inputs[key] for key in inputs if key != "loss_weights"}
        outputs = model(**fields, use_cache=False)
        loss = weighted_loss(outputs.logits, inputs["input_ids"], weights)
        if num_items_in_batch is None:
            loss = loss / weights[:, 1:].sum().clamp(min=1e-8)
        else:
            # Processes' gradients are averaged, so each one's sum counts as many times over.
            loss = loss * self.args.world_size / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer, _ = optimizers(self.model, self.recipe)
        return self.optimizer or super().create_optimizer(model)


class Progress(TrainerCallback):
    """Hands step, last step and loss to a function at each log."""

    def __init__(self, report: Callable[[int, int, float], None]) -> None:
        self.report = report

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.report(state.global_step, state.max_steps, logs["loss"])


def optimizers(model: torch.nn.Module, recipe: Recipe) -> tuple[torch.optim.Optimizer | None, None]:
    """What a Trainer's `optimizers` takes: Muon, or None for the AdamW that it makes itself."""
    if recipe.optimizer != "muon":
        return None, None
    muon = MuonAdamW(model, recipe.learning_rate, recipe.adamw_learning_rate, recipe.weight_decay)
    return muon, None


def fast_attention(model: PreTrainedModel, flat: bool = False) -> None:
    """The fastest attention that there is: `flat` says that batches may be packed in one row.

    SDPA's bfloat16 backward is slow on CPUs: eager attention there.
    """
    if hardware.has_bfloat16(hardware.device()) and hardware.device() == "cpu":
        model.set_attn_implementation("eager")
    elif flat and flat_attention_fits(model):
        model.set_attn_implementation(FLAT)


def training_arguments(
    spec: TrainingSpec,
    folder: Path,
    kind: type[TrainingArguments] = TrainingArguments,
    **more: Any,
) -> TrainingArguments:
    """Trainer's settings for a training on this machine's hardware; `more` are of another kind."""
    recipe = spec.recipe
    on_gpu = hardware.device() == "cuda"
    bfloat16 = hardware.has_bfloat16(hardware.device()) and spec.precision != "float32"
    compiled, processes = recipe.compile and hardware.can_compile(), 1
    if "deepspeed" in more:
        processes = int(os.environ["WORLD_SIZE"])
        # DeepSpeed keeps the parameters themselves in bfloat16: on a GPU, as the paper does for L.
        bfloat16, compiled = bfloat16 and on_gpu, False
    loaders = 0
    if on_gpu and recipe.packing:  # which takes longer to lay out than a GPU's step
        loaders = max(1, min(LOADERS, hardware.available_cores() // processes))
    arguments = kind(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=max(1, recipe.batch_size // processes),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup_steps,
        max_grad_norm=recipe.max_grad_norm,
        adam_beta2=0.95 if recipe.optimizer == "muon" else 0.999,
        bf16=bfloat16,
        tf32=False if on_gpu else None,  # compiling would turn it on, for all that comes after
        torch_compile=compiled,
        logging_steps=spec.log_steps,
        save_steps=recipe.save_steps,
        seed=spec.seed,
        data_seed=spec.seed,
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        dataloader_num_workers=loaders,
        dataloader_prefetch_factor=4 if loaders else None,
        logging_nan_inf_filter=not on_gpu,  # a GPU would wait for it at every step
        # A last, smaller batch would be compiled for itself.
        dataloader_drop_last=compiled,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        **more,
    )
    if "deepspeed" not in more and arguments.n_gpu > 1:
        # All GPUs in one process is DataParallel, which TRL refuses, and which compiles nothing.
        arguments._n_gpu = 1
    return arguments


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    traces: TokenizedTraces,
    spec: TrainingSpec,
    folder: Path,
    progress: Callable[[int, int, float], None] | None = None,
    deepspeed: Mapping[str, Any] | None = None,
    keep: bool = True,
) -> pd.DataFrame:
    """Train `model` and leave it in `folder`; returns the loss curve (step, examples, loss).

    Resumes from `folder/checkpoints` where an earlier call was interrupted. The folder then holds
    an ordinary checkpoint (safetensors and tokenizer) and `loss.json`, and no intermediate state.
    Raises `UserError` where there is nothing to train on. With `deepspeed`, its configuration, this
    is one of the processes that lib/training/deepspeed.py started. Without `keep` nothing is
    written.
    """
    if finished(folder):
        return read_curve(folder)
    if not len(traces):
        raise UserError("training: no traces; raise the profile's example counts")
    recipe = spec.recipe
    fast_attention(model, flat=recipe.packing and not deepspeed)
    set_seed(spec.seed)
    model.config.use_cache = False
    more: dict[str, Any] = {"deepspeed": dict(deepspeed)} if deepspeed else {}
    if not keep:
        more["save_strategy"] = "no"
    arguments = training_arguments(spec, folder, **more)
    if arguments.torch_compile:
        torch.compiler.reset()  # it compiles a function for eight models, and then no more
    trainer = WeightedTrainer(
        model=model,
        args=arguments,
        train_dataset=FilledTraces(traces) if deepspeed else traces,
        data_collator=collator(recipe, tokenizer, traces, arguments.train_batch_size, model.config),
        callbacks=[Progress(progress)] if progress else [],
    )
    trainer.recipe = recipe
    if recipe.weights == "bfloat16":
        trainer.add_callback(RoundedWeights())
    trainer.remove_callback(PrinterCallback)  # it prints every log; `progress` is told instead
    with hardware.whole_compiled_code():
        checkpoints.resume(trainer, folder / "checkpoints")
    model.config.use_cache = True
    if model.config._attn_implementation == FLAT:  # of packed batches alone
        model.set_attn_implementation("sdpa")
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    rows = [
        {"step": e["step"], "examples": e["step"] * recipe.batch_size, "loss": e["loss"]}
        | {name: e[name] for name in CHANGED if name in e}
        for e in history
    ]
    if keep and trainer.is_world_process_zero():
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
        files.write_atomic(folder / "loss.json", json.dumps(rows))
        finished(folder)
    return _curve(rows)


def _curve(rows: list[dict]) -> pd.DataFrame:
    """Points of a loss curve; those of rounded weights have more columns than CURVE."""
    more = [name for name in CHANGED if rows and name in rows[0]]
    return pd.DataFrame(rows, columns=[*CURVE, *more])


def finished(folder: Path) -> bool:
    """Whether `folder` holds a trained model: its loss curve is written last.

    What training left there goes: cut off in the middle, a later call would resume from its rest.
    """
    if not (folder / "loss.json").exists():
        return False
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return True


def read_curve(folder: Path) -> pd.DataFrame:
    """The loss curve of a trained model's folder: columns step, examples, loss, and, of weights
    kept in bfloat16, those of lib/training/rounding.py."""
    return _curve(files.read_json(folder / "loss.json"))
