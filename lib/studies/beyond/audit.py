"""The audit: what each point costs or gains in which the published code differs from the paper.

Takes an experiment; gives tidy rows (artifact `audit`): one a switch and split, with the accuracy
gained or lost against the same answers without it, and a paired 95% interval. Each switch lives
beside the code that it alters (`lib.search.variants`, `lib.search.search.roll_backs`,
`lib.profiles.recipe.Recipe`, `lib.search.selection.summed_mean_logprob`,
`lib.tasks.countdown.rules.check_published`, `lib.studies.paper.self_improvement`), off by default.
Users of the published code report less than the paper; lib/studies/beyond/audit_report.py says
which switch could be why. Knows nothing of figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.base import files
from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.evaluation.scoring import accuracy_row
from lib.evaluation.statistics import paired_difference
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.models.llama import load_tokenizer
from lib.models.tokenizer import PIECES, encode_prompts, encode_traces
from lib.search.search import roll_backs
from lib.search.selection import SELECTION_RULES, summed_mean_logprob
from lib.search.tree import SearchTree
from lib.search.variants import PublishedSampling
from lib.studies.paper import ratios, self_improvement
from lib.tasks.task import load_task

MODEL = "S"
SUMMED = "summed_mean_logprob"
PUBLISHED_TOKENS = 50
#: The paper's task (section 4.1), to count how long its problems are in Llama's tokens.
PAPER_TASK = {"numbers": 4, "max_number": 99, "target_low": 10, "target_high": 100}
PAPER_TASK |= {"max_result": 9999, "held_out": 0.1}
COUNTED_PROBLEMS = 2_000
LLAMA_DIGITS = 3  # its tokens hold up to three digits
MAIN, SMALL = "backtracking", "small"  # which checkpoint is the reference


@dataclass(frozen=True)
class Switches:
    """Everything that can be switched; all off is this project's way."""

    beam_sampling: bool = False
    total_tokens: int = 0
    depth_from_one: bool = False
    summed_selection: bool = False
    published_checker: bool = False
    padding_loss: bool = False

    @property
    def sampling(self) -> PublishedSampling | None:
        """What the sampler does otherwise; None where it does not."""
        found = PublishedSampling(self.beam_sampling, self.total_tokens)
        return None if found == PublishedSampling() else found


def paper_longest() -> int:
    """Tokens of the longest of the paper's problems with its solution, in pieces of Llama's kind,
    the two special tokens at its ends among them."""
    task = load_task("lib.tasks.countdown", PAPER_TASK)
    texts = task.optimal_traces(task.make_problems({"train": COUNTED_PROBLEMS}, 0))["text"]
    return 2 + max(len(PIECES[LLAMA_DIGITS].findall(text)) for text in texts)


def our_longest(experiment: Experiment, checkpoint: Artifact) -> int:
    """Tokens of the longest validation problem with its solution."""
    traces = experiment.task.optimal_traces(experiment.problems("validation"))
    return int(encode_traces(load_tokenizer(checkpoint.path), traces).lengths().max())


def variants(cut: int, hard_cut: int, published: bool = True) -> dict[str, tuple[str, Switches]]:
    """Each row's name -> which checkpoint is its reference, and what is switched on.

    published: whether the task has a published checker.
    """
    together = Switches(
        beam_sampling=True,
        total_tokens=cut,
        depth_from_one=True,
        summed_selection=True,
        published_checker=published,
    )
    checker = {"published_checker": (MAIN, Switches(published_checker=True))} if published else {}
    return {
        "depth_from_one": (MAIN, Switches(depth_from_one=True)),
        "beam_sampling": (MAIN, Switches(beam_sampling=True)),
        "cut": (MAIN, Switches(total_tokens=cut)),
        "hard_cut": (MAIN, Switches(total_tokens=hard_cut)),
        "summed_selection": (MAIN, Switches(summed_selection=True)),
        **checker,
        "together_at_inference": (MAIN, together),
        "padding_loss": (SMALL, Switches(padding_loss=True)),
        "together": (SMALL, replace(together, padding_loss=True)),
    }


def checkpoint_of(experiment: Experiment, reference: str, padding_loss: bool) -> Artifact:
    """The model that is searched: the tables' own, or one of two small branches."""
    if reference == MAIN:
        return experiment.checkpoint(MODEL, "backtracking")
    examples = experiment.profile.audit.examples
    return ratios.ratio_branch(experiment, MODEL, 1.0, examples, padding_loss)


def answers(
    experiment: Experiment, reference: str, switches: Switches, split: str
) -> tuple[Artifact, pd.DataFrame]:
    """The search, and its answers: one row a problem, columns correct and tokens."""
    settings, search = experiment.profile.audit, experiment.profile.search
    problems = experiment.problems(split, 0, settings.problems)
    made = experiment.search(
        checkpoint_of(experiment, reference, switches.padding_loss),
        problems,
        experiment.spec(settings.breadth, roll_backs(settings.depth, switches.depth_from_one)),
        switches.sampling,
    )
    rules = {search.selection: SELECTION_RULES[search.selection], SUMMED: summed_mean_logprob}

    def make(folder: Path) -> None:
        trees = experiment.read_trees(made)
        rows = scoring.search_outcomes(trees, problems, experiment.task, rules)
        files.write_parquet(folder / "outcomes.parquet", rows)

    inputs = {"search": made.key, "rules": list(rules)}
    artifact = experiment.run.make(f"outcomes/audit-{made.name}", inputs, make)
    found = files.read_parquet(artifact.path / "outcomes.parquet")
    chosen = found[
        found["selection"] == (SUMMED if switches.summed_selection else search.selection)
    ]
    column = "correct_published" if switches.published_checker else "correct"
    return made, chosen[[column, "tokens"]].set_axis(["correct", "tokens"], axis=1).reset_index()


def compared(
    switched: Sequence[bool], base: Sequence[bool], name: str, **columns: object
) -> dict[str, object]:
    """A row: the accuracy with the switch, and what it gained against the base (`difference`)."""
    gained, low, high = paired_difference(switched, base)
    row = accuracy_row(switched, artifact="audit", model=MODEL, switch=name, **columns)
    row |= {"base": float(np.mean(base)), "difference": gained}
    return row | {"difference_low": low, "difference_high": high}


def search_switches(experiment: Experiment) -> list[dict]:
    """Rows of every switch of training and search; split None is both splits together."""
    settings, search = experiment.profile.audit, experiment.profile.search
    longest = our_longest(experiment, experiment.checkpoint(MODEL, "backtracking"))
    share = min(1.0, PUBLISHED_TOKENS / paper_longest())
    cuts = {"cut": round(share * longest), "hard_cut": round(settings.hard_cut * longest)}
    rows, published = [], experiment.task.check_published is not None
    for name, (reference, switches) in variants(**cuts, published=published).items():
        pairs = {
            split: tuple(answers(experiment, reference, each, split)[1]
                         for each in (switches, Switches()))
            for split in TEST_SPLITS
        }  # fmt: skip
        pairs[None] = tuple(pd.concat(parts) for parts in zip(*pairs.values(), strict=True))
        for split, (switched, base) in pairs.items():
            columns = {"N": settings.breadth, "b": settings.depth, "seed": experiment.seed}
            columns |= {"temperature": search.temperature, "reference": reference}
            columns |= {"selection": SUMMED if switches.summed_selection else search.selection}
            columns |= {"checker": "published" if switches.published_checker else "strict"}
            columns |= {"tokens_per_problem": float(switched["tokens"].mean())}
            if switches.total_tokens:
                columns |= {"total_tokens": switches.total_tokens, "longest_tokens": longest}
            columns |= {"method": "self_backtracking", "split": split}
            rows.append(compared(switched["correct"], base["correct"], name, **columns))
    return rows


def same_ids(trees: Iterable[SearchTree], tokenizer: object) -> tuple[int, int]:
    """Of all states of the trees, how many have the same ids when their text is tokenized again."""
    texts, ids = [], []
    for tree in trees:
        [prompt] = encode_prompts(tokenizer, [tree.prompt])
        for node in tree.nodes:
            if node.kind == "step":
                path = [token for part in tree.path(node.id) for token in part.tokens]
                texts.append(tree.prompt + tree.response(node.id))
                ids.append([*prompt, *path])
    again = encode_prompts(tokenizer, texts)
    return sum(a == b for a, b in zip(ids, again, strict=True)), len(ids)


def text_roll_back(experiment: Experiment) -> list[dict]:
    """Rows of a roll-back through text, where it changes no state; none where it would."""
    found = {split: answers(experiment, MAIN, Switches(), split) for split in TEST_SPLITS}
    tokenizer = load_tokenizer(experiment.checkpoint(MODEL, "backtracking").path)
    counted = [same_ids(experiment.read_trees(made), tokenizer) for made, _ in found.values()]
    same, states = (sum(part) for part in zip(*counted, strict=True))
    if same != states:
        return []
    outcomes: dict[str | None, pd.Series] = {s: rows["correct"] for s, (_, rows) in found.items()}
    outcomes[None] = pd.concat(list(outcomes.values()))
    settings = experiment.profile.audit
    columns = {"method": "self_backtracking", "reference": MAIN, "checker": "strict"}
    columns |= {"N": settings.breadth, "b": settings.depth, "seed": experiment.seed}
    columns |= {"selection": experiment.profile.search.selection, "states": states}
    return [
        compared(right, right, "text_roll_back", split=split, **columns)
        for split, right in outcomes.items()
    ]


def evaluated_problems(experiment: Experiment) -> list[dict]:
    """Rows of a round of self-improvement on the problems that it is then measured on.

    On the validation problems it is measured where it was trained; on the two test splits neither
    it nor the round that it is compared with saw a problem.
    """
    start = experiment.checkpoint(MODEL, "backtracking")
    rounds = [
        self_improvement.improve(experiment, MODEL, start, 1, evaluated=each)
        for each in (True, False)
    ]
    collected = self_improvement.round_problems(experiment, MODEL, 1, evaluated=True)
    count = experiment.profile.audit.problems
    problems = {"validation": collected}
    problems |= {split: experiment.problems(split, 0, count) for split in TEST_SPLITS}
    rows = []
    for split, asked in problems.items():
        right = [
            scoring.response_outcomes(
                experiment.decode(checkpoint, asked)["text"], asked, experiment.task
            )["correct"]
            for checkpoint in rounds
        ]
        columns = {"method": "self_improved_greedy", "split": split, "checker": "strict"}
        columns |= {"reference": MAIN, "seed": experiment.seed, "round": 1}
        rows.append(compared(*right, "evaluated_problems", **columns))
    return rows


def audit_rows(experiment: Experiment) -> pd.DataFrame:
    """Every row of the audit; an empty table where the profile has no section `[audit]`."""
    if experiment.profile.audit is None:
        return table([])
    rows = search_switches(experiment)
    return table([*rows, *text_roll_back(experiment), *evaluated_problems(experiment)])
