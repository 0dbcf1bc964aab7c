"""Best-of-N with an outcome reward model: what search needs where no token judges a state.

Takes an experiment; gives a reward model (the SFT checkpoint with a sequence-classification head,
trained on the SFT model's own right and wrong paths), the scores that it gives paths, and the
accuracy of the best-scored of N samples. Source: Table 1 of the paper (`SFT + RM`); Cobbe et al.
2021, arXiv 2110.14168. Knows nothing of search by backtracking.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from transformers import (
    set_seed,
)

from lib.base import files, hardware
from lib.drawing.style import (
    METHODS,
    PALETTE,
    PAPER_MARK,
    curve,
    grid,
    handle,
    legend,
    paper_handle,
    percent,
    pick,
    powers,
    styled,
)
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.results import table
from lib.evaluation.scoring import checker_rows, verdict_columns
from lib.evaluation.states import finished_paths, sample_order
from lib.evaluation.statistics import roc_auc
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.models.llama import load_tokenizer
from lib.search.tree import SearchTree, tokens_after
from lib.studies.measurements import training_samples
from lib.tasks.task import Task
from lib.training.reward_model import load_reward_model, path_sequences, rewards, train_reward_model

HELD_OUT = 10  # one problem in ten tells how well the reward model knows paths it never saw
CHOICES = {
    "reward": "best_of_n",
    "mean_logprob": "sft_sampled_mean_logprob",
    "visits": "sft_sampled_vote",
}
CEILING = "sft_pass_at_n"


def reward_model(experiment: Experiment, model: str) -> Artifact:
    """The reward model of an SFT model, and how well it ranks held-out paths (`held_out.json`)."""
    settings = experiment.profile.baselines
    parent = experiment.checkpoint(model, "sft")
    made, problems = training_samples(experiment, model)
    inputs = {
        "parent": parent.key,
        "search": made.key,
        "paths": settings.reward_paths,
        "recipe": settings.reward.inputs(),
        "seed": experiment.seed,
    }

    def make(folder: Path) -> None:
        paths = finished_paths(experiment.read_trees(made), problems, experiment.task)
        unseen = paths["problem"] % HELD_OUT == HELD_OUT - 1
        train = paths[~unseen].sample(frac=1, random_state=experiment.seed)
        train = train.iloc[: settings.reward_paths]
        tokenizer = load_tokenizer(parent.path)
        prompts = experiment.task.prompts(problems)
        set_seed(experiment.seed)  # of the new head
        scorer = load_reward_model(parent.path)
        train_reward_model(
            scorer,
            tokenizer,
            path_sequences(tokenizer, prompts, train),
            train["correct"].tolist(),
            settings.reward,
            folder,
            experiment.seed,
        )
        held = paths[unseen]
        scores = rewards(scorer, path_sequences(tokenizer, prompts, held), tokenizer.pad_token_id)
        known = {
            "trained_paths": len(train),
            "trained_right": float(train["correct"].mean()),
            "held_out_paths": len(held),
            "auc": roc_auc(scores, held["correct"]),
            "auc_mean_logprob": roc_auc(held["mean_logprob"], held["correct"]),
        }
        files.write_atomic(folder / "held_out.json", json.dumps(known))

    return experiment.run.make(f"models/{model}-reward", inputs, make)


def held_out(experiment: Experiment) -> pd.DataFrame:
    """How well each model's reward model ranks paths of problems that it never saw."""
    settings = experiment.profile.baselines
    models = [] if settings is None else settings.models
    return pd.DataFrame(
        {
            "model": model,
            **files.read_json(reward_model(experiment, model).path / "held_out.json"),
        }
        for model in models
    )


def choices(
    trees: Sequence[SearchTree],
    problems: pd.DataFrame,
    task: Task,
    paths: pd.DataFrame,
    breadths: Sequence[int],
    seed: int,
) -> pd.DataFrame:
    """The best of the first N samples by each score: one row a problem, N and score.

    paths: `finished_paths` of these trees with a column `reward`. Equal scores go to the more
    probable path. Whoever chooses sees scores alone; the verdicts are looked up afterwards.
    """
    by_problem = dict(list(paths.groupby("problem")))
    records, verdicts = [], verdict_columns(task)
    for tree, split in zip(trees, problems["split"], strict=True):
        order = sample_order(tree, seed)
        tokens = tokens_after(tree, order)
        known = by_problem.get(tree.problem_id, paths.iloc[:0]).set_index("leaf")
        for breadth in breadths:
            first = pd.Series(order[:breadth]).value_counts()
            found = known[known.index.isin(first.index)]
            found = found.assign(visits=first.reindex(found.index))
            common = {"problem": tree.problem_id, "split": split, "N": breadth}
            common |= {"tokens": tokens[breadth - 1]}
            for name in verdicts:
                common |= {name.replace("correct", "covered"): bool(found[name].any())}
            for score in CHOICES:
                by = list(dict.fromkeys([score, "mean_logprob"]))
                ranked = found.sort_values(by, ascending=False, kind="stable")
                best = ranked.iloc[0] if len(ranked) else None
                records.append(
                    common
                    | {"score": score, "leaf": None if best is None else int(best.name)}
                    | {name: best is not None and bool(best[name]) for name in verdicts}
                )
    return pd.DataFrame(records)


def best_of_n(experiment: Experiment, model: str, split: str) -> pd.DataFrame:
    """`choices` over a test split, by the SFT model's samples and its reward model."""
    settings = experiment.profile.baselines
    scorer = reward_model(experiment, model)
    problems = experiment.problems(split, 0, settings.test_problems)
    checkpoint, most = experiment.checkpoint(model, "sft"), max(settings.breadths)
    made = experiment.search(
        checkpoint, problems, experiment.spec(most, 0, temperature=settings.temperature)
    )
    inputs = {"search": made.key, "reward": scorer.key, "breadths": settings.breadths}

    def make(folder: Path) -> None:
        trees = experiment.read_trees(made)
        paths = finished_paths(trees, problems, experiment.task)
        tokenizer = load_tokenizer(scorer.path)
        sequences = path_sequences(tokenizer, experiment.task.prompts(problems), paths)
        scoring = load_reward_model(scorer.path).to(hardware.device())
        paths["reward"] = rewards(scoring, sequences, tokenizer.pad_token_id)
        found = choices(trees, problems, experiment.task, paths, settings.breadths, experiment.seed)
        files.write_parquet(folder / "choices.parquet", found)

    made = experiment.run.make(f"outcomes/{model}-best_of_n-{split}", inputs, make)
    return files.read_parquet(made.path / "choices.parquet")


def best_of_n_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Best-of-N by the reward model, and the same samples by log-probability and by vote.

    Artifact `best_of_n` has every N, and the ceiling; `table_1` the paper's rows, and the other two
    choices at the largest N.
    """
    settings = experiment.profile.baselines
    if settings is None or model not in settings.models:
        return table([])
    found = pd.concat([best_of_n(experiment, model, split) for split in TEST_SPLITS])
    rows = []
    for (split, breadth), cell in found.groupby(["split", "N"]):
        common = {"model": model, "split": split, "N": int(breadth), "seed": experiment.seed}
        common |= {"temperature": settings.temperature}
        common |= {"tokens_per_problem": float(cell["tokens"].mean())}
        common |= {"artifact": "best_of_n"}
        for score, chosen in cell.groupby("score"):
            both = chosen["correct"], chosen.get("correct_published")
            measured = checker_rows(*both, method=CHOICES[score], **common)
            rows += measured
            if score == "reward" or breadth == max(settings.breadths):
                rows += [each | {"artifact": "table_1"} for each in measured]
        once = cell.drop_duplicates("problem")
        both = once["covered"], once.get("covered_published")
        rows += checker_rows(*both, method=CEILING, **common)
    return table(rows)


LOOKS = {
    "best_of_n": {"colour": PALETTE[3], "marker": "o"},
    "sft_sampled_mean_logprob": {"colour": PALETTE[2], "marker": "s"},
    "sft_sampled_vote": {"colour": PALETTE[1], "marker": "^"},
    "self_backtracking": {"colour": PALETTE[0], "marker": "D"},
}
CEILING_2 = "sft_pass_at_n"
APART = 2**0.05  # so that intervals do not hide each other


@styled
def draw_best_of_n(rows: pd.DataFrame) -> Figure:
    """Each choice among N samples, their ceiling, and Self-Backtracking (b=1) at the same N."""
    found = pick(rows, "best_of_n", "figure_4", need=["N"])
    search = found["artifact"] == "figure_4"
    measured = found.loc[~search, "N"]
    same = found["N"].isin(measured) if len(measured) else search  # a run without best-of-N
    search &= (found["method"] == "self_backtracking") & (found["b"] == 1).fillna(False) & same
    found = beside_paper(found[search | (found["artifact"] == "best_of_n")])
    figure, grid_panels = grid(found)
    shown = [name for name in LOOKS if (found["method"] == name).any()]
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, name in enumerate(shown):
            line = here[here["method"] == name]
            apart = APART ** (number - (len(shown) - 1) / 2)
            line = line.assign(x=line["N"].astype(float) * apart).sort_values("x")
            curve(panel, line, "x", **LOOKS[name])
            mark = PAPER_MARK | {"markeredgecolor": LOOKS[name]["colour"]}
            panel.plot(line["x"], line["paper"], **mark)
        ceiling = here[here["method"] == CEILING_2].sort_values("N")
        panel.plot(ceiling["N"].astype(float), ceiling["accuracy"], "--", color="#555555")
        powers(panel, found["N"])
        panel.set_xlabel("samples N")
    for panel, *_ in grid_panels:
        percent(panel)
    names = METHODS | {"self_backtracking": "Self-Backtracking, b=1"}
    handles = [handle(names[name], **LOOKS[name]) for name in shown]
    if (found["method"] == CEILING_2).any():
        label = "ceiling: any sample right"
        handles.append(handle(label, "#555555", linestyle="--", marker=""))
    papers = [paper_handle("the paper")] if found["paper"].notna().any() else []
    legend(figure, handles + papers, columns=3)
    return figure
