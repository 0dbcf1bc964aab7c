"""A checkpoint at work on one Countdown problem at a time: search, greedy decoding, verdicts.

Takes a folder that transformers wrote (safetensors only); gives search trees, texts and
probabilities. Knows nothing of widgets. `stop()`, from any thread, ends what runs with Stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import torch
from transformers.utils import logging as progress

from lib.base.errors import UserError
from lib.models.llama import load_model, load_tokenizer
from lib.models.tokenizer import StepTokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.sampler import make_sampler
from lib.search.search import search
from lib.search.tree import SearchTree
from lib.tasks.countdown.rules import Problem

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
        self.sampler = make_sampler(self.model, self.steps, MAX_NEW_TOKENS)

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
        spec = SearchSpec(breadth, depth, temperature, seed)
        return search(self.sampler, self.steps, [prompt], spec)[0]

    def greedy(self, problem: Problem) -> str:
        """The response of greedy decoding, end-of-sequence token dropped."""
        prompts = self.steps.encode_prompts([problem.prompt()])
        [[sample]] = self.sampler.sample(prompts, [1], temperature=0.0, seed=0)
        return self.tokenizer.decode(sample.tokens[: -1 if sample.stop == "goal" else None])

    @torch.inference_mode()
    def verdict(self, problem: Problem, steps: Sequence[str] = ()) -> float:
        """P(<backtrack>) as the next token of the state after `steps`."""
        ids = self.steps.encode_prompts([state_text(problem, steps)])
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
        self.steps = StepTokenizer(tokenizer, "\n")
        self.backtrack_id = self.steps.backtrack_id
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


MAX_BREADTH, MAX_DEPTH = 512, 8


class Controls(ipw.VBox):
    """`numbers`, `target`, `breadth`, `depth`, `temperature`, `seed`, `checkpoint`; the buttons."""

    def __init__(self, checkpoints: Mapping[str, str | None], problem: Problem, seed: int):
        # Sent whole, when the field is left: of what is sent while one types, all but the first is
        # held back as long as the kernel is busy, and Run would overtake it.
        typed = {"continuous_update": False}
        self.numbers = _field(ipw.Text, "Numbers", "12em", **typed)
        self.target = _field(ipw.Text, "Target", "4.5em", **typed)
        self.set_problem(problem)
        self.breadth = _field(
            ipw.BoundedIntText, "Breadth N", "4.5em", value=16, min=1, max=MAX_BREADTH
        )
        self.depth = _field(ipw.BoundedIntText, "Depth b", "4em", value=1, min=0, max=MAX_DEPTH)
        self.temperature = _field(
            ipw.BoundedFloatText, "Temperature", "5em", value=0.7, min=0.0, max=5.0, step=0.1
        )
        self.seed = _field(ipw.BoundedIntText, "Seed", "5.5em", value=seed, min=0, max=2**31 - 1)
        options = list(checkpoints.items()) or [("none yet", None)]
        self.checkpoint = _field(ipw.Dropdown, "Checkpoint", "22em", options=options)
        self.run = _button("Run", "Search this problem", "primary")
        self.stop = _button("Stop", "Stop the search", "")
        self.stop.disabled = True
        self.random = _button(
            "Random problem that greedy fails", "Draw problems until greedy decoding fails one", ""
        )
        fields = [self.numbers, self.target, self.breadth, self.depth, self.temperature, self.seed]
        wrap = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
        super().__init__(
            [
                ipw.HBox([*fields, self.checkpoint], layout=ipw.Layout(**wrap)),
                ipw.HBox([self.run, self.stop, self.random], layout=ipw.Layout(**wrap)),
            ]
        )

    def set_problem(self, problem: Problem) -> None:
        self.numbers.value = ", ".join(map(str, problem.numbers))
        self.target.value = str(problem.target)

    def search_settings(self) -> dict[str, Any]:
        return {
            "breadth": self.breadth.value,
            "depth": self.depth.value,
            "temperature": self.temperature.value,
            "seed": self.seed.value,
        }

    def set_busy(self, busy: bool) -> None:
        """Stop works while something runs; Run then only says that something does."""
        self.stop.disabled = not busy


def _field(kind: type[ipw.Widget], label: str, width: str, **settings: Any) -> Any:
    """A field whose label stands before it, as wide as both need."""
    total = f"calc({width} + {0.62 * len(label) + 1:.1f}em)"
    layout = ipw.Layout(width=total, max_width="100%", margin="2px 10px 2px 2px")
    return kind(
        description=label, layout=layout, style={"description_width": "initial"}, **settings
    )


def _button(label: str, title: str, style: str) -> ipw.Button:
    layout = ipw.Layout(width="auto", max_width="100%")
    return ipw.Button(description=label, tooltip=title, button_style=style, layout=layout)


def checkpoint_choices(root: Path, run: str = "", extra: str | Path = "") -> dict[str, str]:
    """What the checkpoint menu offers: label -> folder, below `root`; the first is the default.

    `extra` comes first, even if it is missing (Run then says so); then what ships in models/, then
    the folder runs/`run`, then other runs. Within a run, models that learned to backtrack lead.
    """
    found = []
    for top in ("models", "runs"):
        for weights in (root / top).rglob("*.safetensors"):
            folder = weights.parent
            config = folder / "config.json"
            if not config.is_file() or ".partial" in str(folder):
                continue
            # A reward model, of Table 1's best-of-N, writes no text.
            if "ForSequenceClassification" not in config.read_text("utf-8", "replace"):
                found.append(str(folder.relative_to(root)))

    def rank(label: str) -> tuple[bool, bool, bool, str]:
        shipped, own = label.startswith("models"), label.startswith(f"runs/{run}/")
        return (not shipped, not own, "backtrack" not in label, label)

    choices = {label: str(root / label) for label in sorted(set(found), key=rank)}
    if not extra:
        return choices
    folder = Path(extra).expanduser()
    folder = folder if folder.is_absolute() or folder.exists() else root / folder
    return {str(extra): str(folder), **choices}
