"""Fine-tuning with transformers' Trainer: weighted loss masks, Muon, the fast path, resuming.

Takes a model, a tokenizer, tokenized traces and a recipe; leaves a checkpoint folder that plain
transformers loads, and its loss curve. Knows nothing of Countdown. Source: section 3.2 and
appendix of the paper; a recipe's defaults are the paper's.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from accelerate.data_loader import SeedableRandomSampler
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import Sampler
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from lib import checkpoints, hardware, store
from lib.errors import UserError
from lib.flatpacking import FLAT, flat_attention_fits, flat_shape, pack_flat
from lib.optimizers import MuonAdamW
from lib.packing import pack, packed_shape
from lib.tokenization import TokenizedTraces

OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "constant_with_warmup", "linear")
PAD_MULTIPLE = 8
LOADERS = 8  # processes that make batches for a GPU
CURVE = ["step", "examples", "loss"]
LATER_KEYS = {"packing": False}

if hardware.device() == "cpu":  # or two warnings a model would say that there is no GPU
    logging.getLogger("transformers.training_args").setLevel(logging.ERROR)
    os.environ.setdefault("DS_ACCELERATOR", "cpu")


@dataclass(frozen=True)
class Recipe:
    """How to train. One epoch over the traces given; batch_size is the global one, in examples."""

    optimizer: str = "adamw"
    learning_rate: float = 1e-5
    adamw_learning_rate: float = 1e-5  # of what Muon leaves to AdamW
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup_steps: int = 1
    batch_size: int = 16
    epochs: float = 3.0
    max_grad_norm: float = 1.0
    verdict_weight: float = 1.0
    save_steps: int = 200
    compile: bool = False
    packing: bool = False  # several examples in a row, with no attention between them
    #: The audit's switch: padding carries loss, as published. No profile can set it.
    padding_loss: ClassVar[bool] = False

    def inputs(self) -> dict[str, Any]:
        """The recipe as an artifact's inputs.

        A key that came later is left out where it has its default: it must not change the keys of
        what was made before.
        """
        settings = asdict(self)
        return {k: v for k, v in settings.items() if k not in LATER_KEYS or v != LATER_KEYS[k]}

    def __post_init__(self) -> None:
        for key, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, key) not in choices:
                value = getattr(self, key)
                raise UserError(f"{key} = {value!r}: choose one of {', '.join(choices)}")
        if self.packing and self.padding_loss:
            raise UserError("padding_loss = true: not with packing, which leaves little padding")
        least = {"batch_size": 1, "save_steps": 1, "weight_decay": 0, "warmup_steps": 0}
        least |= {"max_grad_norm": 0, "verdict_weight": 0}
        for key, bound in least.items():
            if not bound <= getattr(self, key) < math.inf:
                raise UserError(f"{key} = {getattr(self, key)}: must be at least {bound}")
        for key in ("learning_rate", "adamw_learning_rate", "epochs"):
            if not 0 < getattr(self, key) < math.inf:
                raise UserError(f"{key} = {getattr(self, key)}: must be more than 0")


@dataclass(frozen=True)
class PaddingLossRecipe(Recipe):
    """A recipe with that switch on; an artifact's inputs must name it themselves."""

    padding_loss: ClassVar[bool] = True


def collate(
    examples: Sequence[dict[str, np.ndarray]],
    pad_id: int,
    verdict_weight: float,
    padding_loss: bool = False,
) -> dict[str, Tensor]:
    """Right-padded batch: input_ids, attention_mask int64 [batch, length]; loss_weights float32.

    loss_weights[i, t] weights the loss of *predicting* token t; padding has none, unless the
    audit's switch `padding_loss` gives it that of any other token.
    """
    length = max(len(example["input_ids"]) for example in examples)
    length = -(-length // PAD_MULTIPLE) * PAD_MULTIPLE  # fewer shapes, fewer compilations
    ids = np.full((len(examples), length), pad_id, dtype=np.int64)
    codes = np.zeros((len(examples), length), dtype=np.uint8)
    mask = np.zeros((len(examples), length), dtype=np.int64)
    for row, example in enumerate(examples):
        size = len(example["input_ids"])
        ids[row, :size] = example["input_ids"]
        codes[row, :size] = example["loss_codes"]
        mask[row, :size] = 1
    weights = np.array([0.0, 1.0, verdict_weight], dtype=np.float32)[codes]
    if padding_loss:
        weights[mask == 0] = 1.0
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "loss_weights": torch.from_numpy(weights),
    }


def collator(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    traces: TokenizedTraces,
    batch_size: int,
    config: PretrainedConfig,
) -> Callable[[Sequence[dict[str, np.ndarray]]], dict[str, Tensor]]:
    """What makes a batch of `batch_size` examples: padded, or packed where the recipe says so."""
    pad_id, weight = tokenizer.pad_token_id, recipe.verdict_weight
    if recipe.padding_loss:  # the published code pads with the end of sequence
        eos = tokenizer.eos_token_id
        return lambda examples: collate(examples, eos, weight, padding_loss=True)
    if not recipe.packing:
        return lambda examples: collate(examples, pad_id, weight)
    if config._attn_implementation == FLAT:
        flat = flat_shape(traces.lengths(), batch_size)
        return lambda examples: pack_flat(examples, pad_id, weight, flat)
    shape = packed_shape(traces.lengths(), batch_size, config.hidden_size)
    return lambda examples: pack(examples, pad_id, weight, shape)


def weighted_loss(logits: Tensor, input_ids: Tensor, loss_weights: Tensor) -> Tensor:
    """Sum of weighted next-token losses. logits: [batch, length, vocab]; others [batch, length]."""
    losses = cross_entropy(
        logits[:, :-1].float().flatten(0, 1), input_ids[:, 1:].flatten(), reduction="none"
    )
    # Autocast would make a dot product's sum bfloat16.
    return (losses * loss_weights[:, 1:].flatten()).sum()


class EvenSampler(Sampler):
    """One process's order of examples, filled up to whole global batches, for several processes.

    What fills the last batch is the index past the last trace: an example without loss. Left to
    itself accelerate would repeat the first examples there, which one process does not.
    """

    def __init__(self, traces: Any, batch_size: int, seed: int) -> None:
        self.order = SeedableRandomSampler(traces, data_seed=seed)
        self.filling = -len(traces) % batch_size

    def __len__(self) -> int:
        return len(self.order) + self.filling

    def __iter__(self) -> Iterator[int]:
        yield from self.order
        yield from [len(self.order)] * self.filling

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)


@dataclass(frozen=True)
class FilledTraces:
    """Traces, and one more example that carries no loss."""

    traces: TokenizedTraces

    def __len__(self) -> int:
        return len(self.traces)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if index < len(self.traces):
            return self.traces[index]
        first = self.traces[0]
        return {**first, "loss_codes": np.zeros_like(first["loss_codes"])}


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
    recipe: Recipe,
    folder: Path,
    seed: int,
    log_steps: int,
    kind: type[TrainingArguments] = TrainingArguments,
    **more: Any,
) -> TrainingArguments:
    """Trainer's settings for a recipe on this machine's hardware; `more` are of another kind."""
    on_gpu = hardware.device() == "cuda"
    bfloat16 = hardware.has_bfloat16(hardware.device())
    compiled = recipe.compile and hardware.can_compile()
    processes = max(1, torch.cuda.device_count() if on_gpu else 1)
    if "deepspeed" in more:
        processes = int(os.environ["WORLD_SIZE"])
        # DeepSpeed keeps the parameters themselves in bfloat16: on a GPU, as the paper does.
        bfloat16, compiled = bfloat16 and on_gpu, False
    return kind(
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
        torch_compile=compiled,
        logging_steps=log_steps,
        save_steps=recipe.save_steps,
        seed=seed,
        data_seed=seed,
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        # A step of a GPU is shorter than making its batch; a CPU's cores have the step to do.
        dataloader_num_workers=min(LOADERS, os.cpu_count() or 1) if on_gpu else 0,
        dataloader_prefetch_factor=4 if on_gpu else None,
        logging_nan_inf_filter=not on_gpu,  # a GPU would wait for it at every step
        # A last, smaller batch would be compiled for itself.
        dataloader_drop_last=compiled,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        **more,
    )


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    traces: TokenizedTraces,
    recipe: Recipe,
    folder: Path,
    seed: int,
    progress: Callable[[int, int, float], None] | None = None,
    log_steps: int = 5,
    deepspeed: Mapping[str, Any] | None = None,
    keep: bool = True,
) -> pd.DataFrame:
    """Train `model` and leave it in `folder`; returns the loss curve (step, examples, loss).

    Resumes from `folder/checkpoints` where an earlier call was interrupted. The folder then holds
    an ordinary checkpoint (safetensors and tokenizer) and `loss.json`, and no intermediate state.
    Raises `UserError` where there is nothing to train on. With `deepspeed`, its configuration, this
    is one of the processes that lib/launch.py started. Without `keep` nothing is written.
    """
    if finished(folder):
        return read_curve(folder)
    if not len(traces):
        raise UserError("training: no traces; raise the profile's example counts")
    fast_attention(model, flat=recipe.packing and not deepspeed)
    set_seed(seed)
    model.config.use_cache = False
    more: dict[str, Any] = {"deepspeed": dict(deepspeed)} if deepspeed else {}
    if not keep:
        more["save_strategy"] = "no"
    arguments = training_arguments(recipe, folder, seed, log_steps, **more)
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
    trainer.remove_callback(PrinterCallback)  # it prints every log; `progress` is told instead
    checkpoints.train(trainer, folder / "checkpoints")
    model.config.use_cache = True
    if model.config._attn_implementation == FLAT:  # of packed batches alone
        model.set_attn_implementation("sdpa")
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    rows = [
        {"step": e["step"], "examples": e["step"] * recipe.batch_size, "loss": e["loss"]}
        for e in history
    ]
    if keep and trainer.is_world_process_zero():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        store.write_atomic(folder / "loss.json", json.dumps(rows))
        finished(folder)
    return pd.DataFrame(rows, columns=CURVE)


def finished(folder: Path) -> bool:
    """Whether `folder` holds a trained model: its loss curve is written last.

    What training left there goes: cut off in the middle, a later call would resume from its rest.
    """
    if not (folder / "loss.json").exists():
        return False
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return True


def read_curve(folder: Path) -> pd.DataFrame:
    """The loss curve (step, examples, loss) of a trained model's folder."""
    return pd.DataFrame(store.read_json(folder / "loss.json"), columns=CURVE)
