"""Language models: from-scratch Llamas of a given size, and pretrained ones from a folder or hub.

Takes a model's settings and a tokenizer; gives an ordinary transformers model with room for every
token; of an architecture alone, parameters and what a token costs. Knows nothing of tasks, training
or search.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lib.base import hardware
from lib.base.errors import UserError, first_line
from lib.profiles.settings import MAX_POSITIONS, heads_fit

# A notebook would keep every load's and every save's bar among its outputs.
transformers_logging.disable_progress_bar()


def head_size(config: PretrainedConfig) -> int:
    """The width of one attention head; some models' are no equal part of theirs."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def feed_forward(hidden_size: int) -> int:
    """The width of a from-scratch model's feed-forward part."""
    return -(-hidden_size * 8 // 3 // 32) * 32


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


def from_scratch(vocabulary: int, hidden_size: int, layers: int, heads: int) -> Architecture:
    """The sizes that `build_model` gives a model."""
    wide = feed_forward(hidden_size)
    return Architecture(
        vocabulary, hidden_size, wide, layers, heads, heads, hidden_size // heads, True
    )


def build_model(
    tokenizer: PreTrainedTokenizerBase, hidden_size: int, layers: int, heads: int, seed: int
) -> LlamaForCausalLM:
    """A Llama with random weights; the feed-forward part is 8/3 as wide as the model."""
    if not heads_fit(hidden_size, heads):
        raise UserError(
            f"hidden_size = {hidden_size}, heads = {heads}: heads must divide hidden_size"
            " into an even size"
        )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=feed_forward(hidden_size),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder or hub name; code from the hub is never run."""
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no tokenizer can be loaded ({first_line(error)})") from error


def load_model(path: str | Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The causal language model of a checkpoint folder or hub name; only safetensors are read.

    Its attention is the one that transformers chooses: SDPA where the family has it, else eager.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except Exception as error:  # safetensors and hub errors share no base class
        raise UserError(f"{path}: no model can be loaded ({first_line(error)})") from error
    return model.eval()


def resize_embeddings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give every token an embedding; new ones start at the mean of the old."""
    old = model.get_input_embeddings().num_embeddings
    if len(tokenizer) <= old:
        return
    # Its own `mean_resizing` draws around the mean, without a seed.
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[old:] = layer.weight[:old].float().mean(0).to(layer.weight.dtype)


def parameter_count(model: torch.nn.Module) -> int:
    """Trainable parameters; tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


class BFloat16Linear(nn.Linear):
    """A linear layer with bfloat16 weights, which takes and gives what the layers around it do."""

    def __init__(self, linear: nn.Linear):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = _rounded(linear.weight)
        self.bias = None if linear.bias is None else _rounded(linear.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.Linear`, `[..., in]` to `[..., out]`."""
        return super().forward(input.bfloat16()).to(input.dtype)


def _rounded(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().bfloat16(), requires_grad=False)


def with_fast_products(model: PreTrainedModel, precision: str) -> PreTrainedModel:
    """The model itself, for inference alone: with `auto` changed in place where its device has
    bfloat16 units, else as it was."""
    if precision != "auto" or not hardware.has_bfloat16(model.device.type):
        return model
    output = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child is not output:
                setattr(parent, name, BFloat16Linear(child))
    return model
