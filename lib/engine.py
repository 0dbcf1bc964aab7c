"""A checkpoint at work on one Countdown problem at a time: search, greedy decoding, verdicts.

Takes a folder that transformers wrote (safetensors only); gives search trees, texts and
probabilities. Knows nothing of widgets. `stop()`, from any thread, ends what runs with Stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as progress

from lib.countdown import Problem
from lib.errors import UserError
from lib.models import load_model, load_tokenizer
from lib.sampler import make_sampler
from lib.search import search
from lib.tokenization import backtrack_id, encode_prompts
from lib.tree import SearchTree

MAX_NEW_TOKENS = 96


class Stopped(UserError):
    """The user stopped what was running."""


class Engine:
    """One loaded checkpoint."""

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        check_folder(folder)
        self.name = folder.name
        self.tokenizer = load_tokenizer(folder)
        # A bar for half a second of loading would stay in the notebook for good.
        progress.disable_progress_bar()
        try:
            self.model = load_model(folder)
        finally:
            progress.enable_progress_bar()
        self._check_tokenizer()
        self._stop = threading.Event()
        self.model.register_forward_pre_hook(self._raise_if_stopped)
        self.sampler = make_sampler(self.model, self.tokenizer, "\n", MAX_NEW_TOKENS)

    def search(
        self,
        problem: Problem,
        breadth: int,
        depth: int,
        temperature: float,
        seed: int,
        steps: Sequence[str] = (),
    ) -> SearchTree:
        """The search tree of `problem`, from the state after `steps` on."""
        prompt = state_text(problem, steps)
        return search(self.sampler, self.tokenizer, [prompt], breadth, depth, temperature, seed)[0]

    def greedy(self, problem: Problem) -> str:
        """The response of greedy decoding, end-of-sequence token dropped."""
        prompts = encode_prompts(self.tokenizer, [problem.prompt()])
        [[sample]] = self.sampler.sample(prompts, [1], temperature=0.0, seed=0)
        return self.tokenizer.decode(sample.tokens[: -1 if sample.stop == "goal" else None])

    @torch.inference_mode()
    def verdict(self, problem: Problem, steps: Sequence[str] = ()) -> float:
        """P(<backtrack>) as the next token of the state after `steps`."""
        ids = encode_prompts(self.tokenizer, [state_text(problem, steps)])
        logits = self.model(input_ids=torch.tensor(ids)).logits[0, -1].float()
        return torch.softmax(logits, dim=-1)[self.backtrack_id].item()

    def tokens(self, text: str) -> list[int]:
        """The token ids of a part of a response."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token."""
        return [self.tokenizer.decode([token]) for token in tokens]

    def stop(self) -> None:
        """End what runs, at the model's next forward pass."""
        self._stop.set()

    def resume(self) -> None:
        """Forget an earlier `stop`."""
        self._stop.clear()

    def _raise_if_stopped(self, *_: Any) -> None:
        if self._stop.is_set():
            raise Stopped("stopped")

    def _check_tokenizer(self) -> None:
        name, tokenizer = self.name, self.tokenizer
        self.backtrack_id = backtrack_id(tokenizer)
        if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
            raise UserError(f"{name}: its tokenizer has no end-of-sequence or no padding token")
        sample = "###Question: numbers [2, 39, 45, 10]->target 62\n###Response:\n45-39=6\n"
        if tokenizer.decode(self.tokens(sample)) != sample:
            raise UserError(f"{name}: its tokenizer cannot write Countdown; choose another")
        rows = self.model.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            raise UserError(
                f"{name}: {len(tokenizer)} tokens but {rows} embeddings; tokenizer and model differ"
            )


def state_text(problem: Problem, steps: Sequence[str]) -> str:
    """The prompt and the steps: what the model has read in that state."""
    return problem.prompt() + "".join(f"{step}\n" for step in steps)


def check_folder(folder: Path) -> None:
    """Raise `UserError` where `folder` holds no checkpoint."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; `make reproduce` makes the checkpoints")
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: no checkpoint there (config.json and a .safetensors file)")
