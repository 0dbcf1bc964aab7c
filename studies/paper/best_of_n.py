"""Best-of-N with an outcome reward model: what search needs where no token judges a state.

Takes an experiment whose profile has a section `[baselines]`; gives a reward model for each source
of paths (the SFT checkpoint with a sequence-classification head: the paper's learns D_op against
D_back of the same question, ours the SFT model's own right and wrong samples), and rows of the
best-scored of N samples (artifacts `best_of_n`, with every N and the ceiling, and `table_1`).
Source: Table 1 of the paper (`SFT + RM`); Cobbe et al. 2021, arXiv 2110.14168. DPO and KTO
(dpo_kto.py) learn from the same paths.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Drawn
from transformers import set_seed

from lib.base import files, hardware
from lib.drawing.markdown import in_words
from lib.drawing.style import (
    CEILING_MARK,
    METHOD_COLOURS,
    METHODS,
    PAPER_MARK,
    curve,
    grid,
    handle,
    legend,
    look,
    paper_handle,
    percent,
    pick,
    powers,
    styled,
)
from lib.evaluation import scoring, states
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.results import headline
from lib.evaluation.scoring import outcome_rows, verdict_columns
from lib.evaluation.states import finished_paths, sample_order
from lib.evaluation.statistics import roc_auc
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.experiment.work import FORWARD, training
from lib.search.tree import SearchTree, tokens_after
from lib.tasks.task import Task
from lib.training import preference
from lib.training import reward_model as reward_model_module
from lib.training.reward_model import load_reward_model, path_sequences, rewards, train_reward_model
from lib.training.trainer import TrainingSpec
from studies.measurements import SAMPLE
from studies.paper.dpo_kto import SOURCES, BaselineSettings, Learned, learned_paths
from studies.study import Figure, Study

HELD_OUT = 10  # one problem in ten tells how well the reward model knows paths it never saw
#: A score of paths -> the method that chooses by it; a reward model is called after its source.
CHOICES = {
    **{source: f"best_of_n{ending}" for source, ending in SOURCES.items()},
    "mean_logprob": "sft_sampled_mean_logprob",
    "visits": "sft_sampled_vote",
}
CEILING = "sft_pass_at_n"


def reward_model(experiment: Experiment, model: str, source: str) -> Artifact:
    """The reward model of an SFT model, and how well it ranks held-out paths (`held_out.json`).

    Both kinds are judged on the same samples, of problems that neither learned from.
    """
    settings = experiment.profile.settings(BaselineSettings)
    parent = experiment.checkpoint(model, "sft")
    questions = round(settings.reward_paths / 2 * HELD_OUT / (HELD_OUT - 1))
    learned = learned_paths(experiment, model, source, questions)
    samples = learned_paths(experiment, model, "own", questions)

    def make(folder: Path) -> None:
        tokenizer = experiment.tokenizer(parent)

        def split(of: Learned) -> tuple[pd.DataFrame, pd.DataFrame]:
            paths = of.read(tokenizer)
            unseen = paths["problem"] % HELD_OUT == HELD_OUT - 1
            return paths[~unseen], paths[unseen]

        def sequences(of: Learned, paths: pd.DataFrame) -> list[list[int]]:
            return path_sequences(tokenizer, experiment.task.prompts(of.problems), paths)

        train, alike = split(learned)
        train = train.sample(frac=1, random_state=experiment.seed).iloc[: settings.reward_paths]
        set_seed(experiment.seed)  # of the new head
        scorer = load_reward_model(parent.path)
        train_reward_model(
            scorer,
            tokenizer.base,
            sequences(learned, train),
            train["correct"].tolist(),
            TrainingSpec(settings.reward, experiment.seed),
            folder,
        )
        _, held = split(samples)
        known = {
            "trained_paths": len(train),
            "trained_right": float(train["correct"].mean()),
            "held_out_paths": len(held),
        }
        for name, of, paths in (("auc_alike", learned, alike), ("auc", samples, held)):
            scores = rewards(scorer, sequences(of, paths), tokenizer.pad_id)
            known[name] = roc_auc(scores, paths["correct"])
        known["auc_mean_logprob"] = roc_auc(held["mean_logprob"], held["correct"])
        files.write_atomic(folder / "held_out.json", json.dumps(known))

    inputs = {
        "parent": parent.key,
        **learned.inputs,
        "samples": samples.inputs,
        "paths": settings.reward_paths,
        "recipe": settings.reward.inputs(),
        "seed": experiment.seed,
    }
    made_by = [reward_model_module, preference, states, experiment.task]
    sampled = settings.problems * settings.samples
    most = min(settings.reward_paths, sampled) if source == "own" else settings.reward_paths
    work = training(model, most * settings.reward.epochs)
    name = f"models/{model}-reward{SOURCES[source]}"
    return experiment.make(name, inputs, make, made_by, work)


def reward_models(experiment: Experiment, model: str) -> dict[str, Artifact]:
    """Source -> the reward model that learned from it."""
    sources = experiment.profile.settings(BaselineSettings).sources
    return {source: reward_model(experiment, model, source) for source in sources}


def held_out(experiment: Experiment) -> pd.DataFrame:
    """How well each reward model ranks paths that it never saw.

    auc: the SFT model's own samples; auc_alike: paths of the kind that it learned from.
    """
    settings = experiment.profile.settings(BaselineSettings)
    return pd.DataFrame(
        {"model": model, "source": source, **files.read_json(scorer.path / "held_out.json")}
        for model in (settings.models if settings else ())
        for source, scorer in reward_models(experiment, model).items()
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

    paths: `finished_paths` of these trees with a column for each reward model, named after its
    source. Equal scores go to the more probable path. Whoever chooses sees scores alone; the
    verdicts are looked up afterwards.
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
            for score in (score for score in CHOICES if score in found):
                by = list(dict.fromkeys([score, "mean_logprob"]))
                ranked = found.sort_values(by, ascending=False, kind="stable")
                best = ranked.iloc[0] if len(ranked) else None
                records.append(
                    common
                    | {"score": score, "leaf": None if best is None else int(best.name)}
                    | {name: best is not None and bool(best[name]) for name in verdicts}
                )
    return pd.DataFrame(records)


def chosen_samples(experiment: Experiment, model: str, split: str) -> Artifact:
    """`choices` over a test split (`choices.parquet`), by the SFT model's samples."""
    settings = experiment.profile.settings(BaselineSettings)
    scorers, checkpoint = reward_models(experiment, model), experiment.checkpoint(model, "sft")
    problems = experiment.problems(split, 0, settings.test_problems)
    how = {"temperature": settings.temperature, "expansion": SAMPLE}
    spec = experiment.spec(max(settings.breadths), 0, **how)
    made = experiment.search(checkpoint, problems, spec)

    def make(folder: Path) -> None:
        trees = experiment.read_trees(made)
        paths = finished_paths(trees, problems, experiment.task)
        tokenizer = experiment.tokenizer(checkpoint)
        sequences = path_sequences(tokenizer, experiment.task.prompts(problems), paths)
        for source, scorer in scorers.items():
            loaded = load_reward_model(scorer.path).to(hardware.device())
            paths[source] = rewards(loaded, sequences, tokenizer.pad_id)
        found = choices(trees, problems, experiment.task, paths, settings.breadths, experiment.seed)
        files.write_parquet(folder / "choices.parquet", found)

    rewarded = {source: scorer.key for source, scorer in scorers.items()}
    inputs = {"search": made.key, "rewards": rewarded, "breadths": settings.breadths}
    made_by = [reward_model_module, states, scoring, experiment.task]
    work = training(model, len(scorers) * len(problems) * spec.breadth * FORWARD)
    return experiment.make(f"outcomes/{model}-best_of_n-{split}", inputs, make, made_by, work)


def requests(experiment: Experiment) -> Iterator[Artifact]:
    """The choices of each model and split; they ask for all that they are made of."""
    for model in experiment.profile.settings(BaselineSettings).models:
        for split in TEST_SPLITS:
            yield chosen_samples(experiment, model, split)


def outcomes(experiment: Experiment) -> pd.DataFrame:
    """Best-of-N by each reward model, and the same samples by log-probability and by vote.

    Artifact `best_of_n` has every N, and the ceiling; `table_1` the paper's rows, and the other two
    choices at the largest N.
    """
    settings = experiment.profile.settings(BaselineSettings)
    parts = []
    for model in settings.models:
        made = [chosen_samples(experiment, model, split) for split in TEST_SPLITS]
        found = pd.concat(files.read_parquet(each.path / "choices.parquet") for each in made)
        found = found.assign(model=model, seed=experiment.seed, temperature=settings.temperature)
        found["method"] = found["score"].map(CHOICES)
        covered = {name: name.replace("covered", "correct") for name in found if "covered" in name}
        once = found.drop_duplicates(["split", "N", "problem"]).drop(columns=covered.values())
        once = once.rename(columns=covered).assign(method=CEILING)
        in_table = found["score"].isin(SOURCES) | (found["N"] == max(settings.breadths))
        parts += [found.assign(artifact="best_of_n"), once.assign(artifact="best_of_n")]
        parts.append(found[in_table].assign(artifact="table_1"))
    kept = ["score", "leaf", "covered", "covered_published"]
    return pd.concat(parts, ignore_index=True).drop(columns=kept, errors="ignore")


def rows(experiment: Experiment) -> pd.DataFrame:
    """The rows of these outcomes."""
    return outcome_rows(outcomes(experiment))


def remark(rows: pd.DataFrame) -> str:
    """What more samples do to the reward model's choice and its ceiling; empty without rows."""
    found = headline(rows, ["best_of_n"])
    if found.empty:
        return ""
    few, many = found["N"].min(), found["N"].max()
    told = [
        f"{name}: {in_words(cells[cells['N'] == few])} of {few} samples, "
        f"{in_words(cells[cells['N'] == many])} of {many}."
        for name, method in (
            ("The reward model's choice is right", "best_of_n"),
            ("That of a reward model of own samples", "best_of_n_own"),
            ("Any is", CEILING),
        )
        if len(cells := found[found["method"] == method])
    ]
    return " ".join(told)


LOOKS = {
    "best_of_n": {"colour": METHOD_COLOURS["reward"], "marker": "P"},
    "best_of_n_own": {"colour": METHOD_COLOURS["own_reward"], "marker": "X"},
    "sft_sampled_mean_logprob": {"colour": METHOD_COLOURS["probable"], "marker": "^"},
    "sft_sampled_vote": {"colour": METHOD_COLOURS["vote"], "marker": "v"},
    "self_backtracking": look(1),
}
NAMES = METHODS | {"self_backtracking": "Self-Backtracking, b=1"}
NAMES |= {"pass_at_n": "ceiling of Self-Backtracking: any path right"}
CEILING_COLOURS = {"pass_at_n": look(1)["colour"], CEILING: METHOD_COLOURS["sft"]}
#: A little apart, so that intervals do not hide each other.
APART = {name: 2 ** (0.05 * number - 0.075) for number, name in enumerate(LOOKS)}
APART["pass_at_n"] = APART["self_backtracking"]


@styled
def accuracy_by_choice(rows: pd.DataFrame) -> Drawn:
    """Each choice among N samples and Self-Backtracking (b=1) at the same N, with their ceilings.

    Of the models that have a reward model; a run without one shows Self-Backtracking alone.
    """
    found = pick(rows, "best_of_n", "figure_4", need=["N"])
    chosen = found[found["artifact"] == "best_of_n"]
    search = found[(found["artifact"] == "figure_4") & (found["b"] == 1).fillna(False)]
    if len(chosen):
        search = search[search["N"].isin(chosen["N"]) & search["model"].isin(chosen["model"])]
    found = beside_paper(pd.concat([chosen, search]))
    found["x"] = found["N"].astype(float) * found["method"].map(APART).fillna(1)
    figure, grid_panels = grid(found)
    shown = [name for name in LOOKS if (found["method"] == name).any()]
    ceilings = [name for name in CEILING_COLOURS if (found["method"] == name).any()]
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for name in shown:
            line = here[here["method"] == name]
            curve(panel, line, "x", **LOOKS[name])
            mark = PAPER_MARK | {"markeredgecolor": LOOKS[name]["colour"]}
            panel.plot(line["x"], line["paper"], **mark)
        for name in ceilings:
            line, colour = here[here["method"] == name], CEILING_COLOURS[name]
            panel.plot(line["x"], line["accuracy"], color=colour, **CEILING_MARK)
        powers(panel, found["N"])
        panel.set_xlabel("samples N")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [handle(NAMES[name], **LOOKS[name]) for name in shown]
    handles += [handle(NAMES[name], CEILING_COLOURS[name], **CEILING_MARK) for name in ceilings]
    papers = [paper_handle("the paper")] if found["paper"].notna().any() else []
    legend(figure, handles + papers, columns=3)
    return figure


STUDY = Study(
    name="best_of_n",
    section="baselines",
    settings=BaselineSettings,
    rows=rows,
    requests=requests,
    outcomes=outcomes,
    figures=(
        Figure(
            "best_of_n",
            accuracy_by_choice,
            "Best-of-N: who chooses among the SFT model's samples, and Self-Backtracking at the "
            "same N (Table 1, claim 3). A reward model of own samples learned right against wrong "
            "samples of the SFT model, not D_op against D_back.",
            ("best_of_n",),
            columns=("N",),
        ),
    ),
    remark=remark,
    title="Best-of-N with a reward model",
)
