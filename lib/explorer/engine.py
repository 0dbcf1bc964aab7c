"""A checkpoint at work on one prompt at a time: search, greedy decoding, verdicts.

Takes a folder that transformers wrote (safetensors only), and prompts; gives search trees, texts
and probabilities. Knows nothing of tasks and widgets. `stop()`, from any thread, ends what runs
with Stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as progress

from lib.base.errors import UserError
from lib.explorer.session import Reading
from lib.explorer.worker import STOPPED
from lib.models.llama import load_model, load_tokenizer
from lib.models.tokenizer import StepTokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.sampler import make_sampler
from lib.search.search import search
from lib.search.tree import SearchTree

LEAST_NEW_TOKENS = 96  # of any response, also where a typed problem is longer than the task's


class Stopped(UserError):
    """The user stopped what was running."""


class Engine:
    """One loaded checkpoint of a task: `example` is a text that its tokenizer must write, `longest`
    its longest response in tokens."""

    def __init__(self, folder: str | Path, example: str, step_end: str, longest: int = 0):
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; `make reproduce` makes the checkpoints")
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise UserError(f"{folder}: no checkpoint there (config.json and a .safetensors file)")
        self.name = folder.name
        self.tokenizer = load_tokenizer(folder)
        self.step_end = step_end
        # A bar for half a second of loading would stay in the notebook for good.
        progress.disable_progress_bar()
        try:
            self.model = load_model(folder)
        finally:
            progress.enable_progress_bar()
        self._check_tokenizer(example)
        self._stop = threading.Event()
        self.model.register_forward_pre_hook(self._raise_if_stopped)
        self.sampler = make_sampler(self.model, self.steps, max(longest, LEAST_NEW_TOKENS))

    def search(
        self,
        prompt: str,
        breadth: int,
        depth: int,
        temperature: float,
        seed: int,
        per_state: str = "sqrt",
    ) -> SearchTree:
        """The search tree of what `prompt` asks; it may hold steps already."""
        spec = SearchSpec(breadth, depth, temperature, seed, per_state=per_state)
        return search(self.sampler, self.steps, [prompt], spec)[0]

    def greedy(self, prompt: str) -> str:
        """The response of greedy decoding, end-of-sequence token dropped."""
        prompts = self.steps.encode_prompts([prompt])
        [[sample]] = self.sampler.sample(prompts, [1], temperature=0.0, seed=0)
        return self.tokenizer.decode(sample.tokens[: -1 if sample.stop == "goal" else None])

    @torch.inference_mode()
    def read(self, prompt: str, text: str = "") -> Reading:
        """How the model reads `text` after `prompt`."""
        [ids] = self.steps.encode_prompts([prompt])
        tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        logits = self.model(input_ids=torch.tensor([[*ids, *tokens]])).logits[0].float()
        logprobs = torch.log_softmax(logits[len(ids) - 1 :], dim=-1)
        own = [logprobs[place, token].item() for place, token in enumerate(tokens)]
        return Reading(tuple(tokens), tuple(own), logprobs[-1, self.backtrack_id].exp().item())

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
            raise Stopped(STOPPED)

    def _check_tokenizer(self, example: str) -> None:
        name, tokenizer = self.name, self.tokenizer
        self.steps = StepTokenizer(tokenizer, self.step_end)
        self.backtrack_id = self.steps.backtrack_id
        if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
            raise UserError(f"{name}: its tokenizer has no end-of-sequence or no padding token")
        ids = tokenizer(example, add_special_tokens=False)["input_ids"]
        if tokenizer.decode(ids) != example:
            raise UserError(f"{name}: its tokenizer cannot write this task; choose another")
        rows = self.model.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            raise UserError(
                f"{name}: {len(tokenizer)} tokens but {rows} embeddings; tokenizer and model differ"
            )
