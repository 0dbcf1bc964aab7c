"""Table 2: other searches beside Self-Backtracking. DFS, symbolic (the paper's) and guided by SFT
(ours), and Stream of Search.

Takes an experiment whose profile has a section `[dfs]` or `[stream]`: a study each, and the first
of them has Self-Backtracking's rows too. Gives rows of S (artifact `table_2`); symbolic DFS, which
asks no model, stands with S, the paper's 1B. Knows nothing of how a search goes
(lib/search/guided_dfs.py, the task's own).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import StrictInt

from lib.base import files
from lib.base.checked import Count, Counts, Positive, between, checked
from lib.drawing.markdown import in_words
from lib.drawing.style import METHODS, setting
from lib.evaluation import scoring
from lib.evaluation.results import headline, table
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import Experiment, progress_bar
from lib.experiment.work import LONG_RESPONSE_COST, sampling, search_tokens
from lib.profiles.load import Profile, offered
from lib.profiles.recipe import Recipe
from lib.profiles.settings import MAX_POSITIONS
from lib.search import decoding, guided_dfs
from lib.search.guided_dfs import GuidedSpec, guided_search, step_sampler
from lib.tasks.task import Task
from studies.measurements import Searched, search_rows, searches
from studies.study import Study

MODEL = "S"
AT_ONCE = 512  # problems that a guided search takes together
#: Of the states that a guided search may visit, so many are visited; a proposal is one step of
#: three, and half of the proposals in a state are the same.
VISITED, STEP = 1 / 2, 1 / 6
STREAM_LENGTH = 3  # streams of search are two to four times as long as other examples


@checked
class DfsSettings:
    """DFS, symbolic and guided by the SFT model (Table 2)."""

    budgets: Counts  # backtracks of the symbolic one, states that the guided one visits
    samples: Count  # proposals drawn in a state
    temperature: Positive

    def check(self, profile: Profile) -> None:
        """Raise `Mistake` where the profile's task cannot say what a state is."""
        offered(profile, "[dfs]", profile.load_task().goal_test)


@checked
class StreamSettings:
    """Stream of Search (Table 2): a branch that learns the traces of real searches."""

    examples: Count  # training problems; one that no search solves in `max_tokens` gives none
    #: Of prompt and stream, in a from-scratch tokenizer's tokens.
    max_tokens: Annotated[StrictInt, between(64, MAX_POSITIONS)]
    recipe: Recipe

    def check(self, profile: Profile) -> None:
        """Raise `Mistake` where the profile's task has no streams."""
        offered(profile, "[stream]", profile.load_task().streams)


def own_searches(experiment: Experiment) -> Iterator[Searched]:
    """Self-Backtracking at the largest N and b."""
    search = experiment.profile.search
    spec = experiment.spec(max(search.breadths), max(search.depths))
    yield from searches(experiment, MODEL, spec)


def own_rows(experiment: Experiment) -> pd.DataFrame:
    """Self-Backtracking's rows, by the profile's selection rule."""
    found = search_rows(experiment, MODEL, own_searches(experiment), "table_2")
    return found[found["selection"] == experiment.profile.search.selection]


def guided(experiment: Experiment) -> Artifact:
    """DFS guided by the SFT model: `searches.parquet` has a row a problem and budget.

    Its columns are problem, N (the budget), response, tokens and visits. The smaller budgets'
    searches are the beginning of the largest one's.
    """
    settings, task = experiment.profile.settings(DfsSettings), experiment.task
    problems, checkpoint = experiment.test_problems(MODEL), experiment.checkpoint(MODEL, "sft")
    prompts = task.prompts(problems)

    def make(folder: Path) -> None:
        network, tokenizer = experiment.load_fast(checkpoint)
        sampler = step_sampler(network, tokenizer, experiment.max_new_tokens(tokenizer))
        limit = max(settings.budgets)
        spec = GuidedSpec(limit, settings.samples, settings.temperature, experiment.seed)
        asked = list(problems.itertuples(index=False))
        found = []
        with progress_bar("DFS guided by SFT", "problem", len(prompts)) as bar:
            for start in range(0, len(prompts), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                how = (task.goal_test, spec, bar.update)
                found += guided_search(sampler, tokenizer, prompts[part], asked[part], *how)
        rows = []
        for budget in settings.budgets:
            for index, search in enumerate(found):
                steps, tokens = search.within(budget)
                row = {"problem": index, "N": budget, "response": response(task, steps)}
                row |= {"tokens": tokens, "visits": min(budget, len(search.visits))}
                rows.append(row)
        files.write_parquet(folder / "searches.parquet", pd.DataFrame(rows))

    inputs = {
        "checkpoint": checkpoint.key,
        "prompts": files.digest(prompts),
        **asdict(settings),
        "seed": experiment.seed,
        **experiment.precision_inputs,
    }
    drawn = round(VISITED * max(settings.budgets) * settings.samples * STEP)
    work = sampling(MODEL, search_tokens(len(problems), drawn, 0))
    return experiment.make(f"dfs/{checkpoint.name}", inputs, make, [guided_dfs, task], work)


def dfs_requests(experiment: Experiment) -> Iterator[object]:
    """The guided search of every test problem, and Self-Backtracking's."""
    yield guided(experiment)
    yield from own_searches(experiment)


def symbolic(experiment: Experiment) -> pd.DataFrame:
    """Symbolic DFS: N (the budget) and response of each problem; no rows without a task's own."""
    problems, task = experiment.test_problems(MODEL), experiment.task
    budgets = experiment.profile.settings(DfsSettings).budgets
    asked = problems.itertuples(index=False) if task.symbolic_dfs else ()
    found = [task.symbolic_dfs(problem, max(budgets)) or (None, 0) for problem in asked]
    rows = [
        {"N": budget, "response": response(task, steps if backtracks <= budget else None)}
        for budget in budgets
        for steps, backtracks in found
    ]
    return pd.DataFrame(rows, columns=["N", "response"])


def response(task: Task, steps: Sequence[str] | None) -> str | None:
    """Steps that reach the target, as a model would say them; None of none."""
    said = None if steps is None else [f"{step}{task.step_end}" for step in steps]
    return None if said is None else "".join([*said, task.goal])


def dfs_rows(experiment: Experiment) -> pd.DataFrame:
    """Accuracy of DFS by budget, symbolic (column N: backtracks) and guided (N: states visited);
    and Self-Backtracking's."""
    temperature = experiment.profile.settings(DfsSettings).temperature
    visited = files.read_parquet(guided(experiment).path / "searches.parquet")
    problems, parts = experiment.test_problems(MODEL), [own_rows(experiment)]
    for method, found, more in (
        ("symbolic_dfs", symbolic(experiment), {}),
        ("dfs", visited, {"temperature": temperature}),
    ):
        for budget, searched in found.groupby("N"):
            rows = scoring.evaluate_responses(
                searched["response"].tolist(),
                problems,
                experiment.task,
                artifact="table_2",
                method=method,
                tokens=searched.get("tokens"),
                model=MODEL,
                seed=experiment.seed,
                N=int(budget),
                **more,
            )
            if "visits" in searched:
                visits = searched.groupby(problems["split"].to_numpy())["visits"].mean()
                rows = rows.assign(visits=rows["split"].map(visits))
            parts.append(rows)
    return table(pd.concat(parts, ignore_index=True))


def solved_by(*methods: str) -> Callable[[pd.DataFrame], str]:
    """A remark: what these methods solve; empty where the run has none of them."""

    def remark(rows: pd.DataFrame) -> str:
        found = headline(rows, ["table_2"])
        found = found[found["method"].isin(methods)].sort_values("N")
        found["name"] = [METHODS[row["method"]] + setting(row) for row in found.to_dict("records")]
        told = [f"{name}: {in_words(cells)}" for name, cells in found.groupby("name", sort=False)]
        return f"Accuracy. {'. '.join(told)}." if told else ""

    return remark


def stream_traces(experiment: Experiment) -> pd.DataFrame:
    """What a Stream of Search model learns from: searches of the problems of the other branches."""
    settings = experiment.profile.settings(StreamSettings)
    start = experiment.profile.models[MODEL].trunk_examples

    def make(folder: Path) -> None:
        problems = experiment.problems("train", start, settings.examples)
        found = experiment.task.streams.traces(problems, settings.max_tokens, experiment.seed)
        files.write_parquet(folder / "traces.parquet", found)

    inputs = {
        "data": experiment.data.key,
        "start": start,
        "examples": settings.examples,
        "max_tokens": settings.max_tokens,
        "seed": experiment.seed,
    }
    artifact = experiment.make(f"streams/{MODEL}", inputs, make, [experiment.task])
    return files.read_parquet(artifact.path / "traces.parquet")


def stream_checkpoint(experiment: Experiment) -> Artifact:
    """The branch that learned streams, from the trunk that every branch starts from."""
    settings = experiment.profile.settings(StreamSettings)
    pretrained = experiment.profile.models[MODEL].path
    trunk = None if pretrained else experiment.checkpoint(MODEL, "trunk")
    return experiment.train(
        f"models/{MODEL}-stream",
        {
            "data": experiment.data.key,
            "parent": trunk.key if trunk else pretrained,
            "examples": settings.examples,
            "max_tokens": settings.max_tokens,
            "seed": experiment.seed,
        },
        lambda: experiment.start(MODEL, trunk),
        lambda: stream_traces(experiment),
        settings.recipe,
        STREAM_LENGTH * settings.examples,
    )


def streams(experiment: Experiment) -> Artifact:
    """Streams of the test problems, decoded greedily: `streams.json` has their text and tokens."""
    settings, checkpoint = (
        experiment.profile.settings(StreamSettings),
        stream_checkpoint(experiment),
    )
    prompts = experiment.task.prompts(experiment.test_problems(MODEL))
    limit = settings.max_tokens

    def make(folder: Path) -> None:
        network, tokenizer = experiment.load_fast(checkpoint)
        with progress_bar("Stream of Search", "problem", len(prompts)) as bar:
            found = decoding.greedy(network, tokenizer, prompts, limit, on_progress=bar.update)
        rows = [{"text": one.text, "tokens": len(one.tokens)} for one in found]
        files.write_atomic(folder / "streams.json", json.dumps(rows))

    inputs = {"checkpoint": checkpoint.key, "prompts": files.digest(prompts), "limit": limit}
    inputs |= experiment.precision_inputs
    work = sampling(MODEL, LONG_RESPONSE_COST * len(prompts) * limit / 2)
    return experiment.make(f"decode/{checkpoint.name}", inputs, make, [decoding], work)


def stream_requests(experiment: Experiment) -> Iterator[object]:
    """The branch that learns streams, and a stream for each test problem."""
    yield streams(experiment)
    if not has_dfs(experiment):
        yield from own_searches(experiment)


def stream_rows(experiment: Experiment) -> pd.DataFrame:
    """Accuracy of the answers that streams end in; a stream itself is no answer."""
    problems, seed = experiment.test_problems(MODEL), experiment.seed
    found = pd.DataFrame(files.read_json(streams(experiment).path / "streams.json"))
    asked = zip(problems.itertuples(index=False), found["text"], strict=True)
    rows = scoring.evaluate_responses(
        [experiment.task.streams.answer(*each) for each in asked],
        problems,
        experiment.task,
        artifact="table_2",
        method="stream_of_search",
        tokens=found["tokens"],
        model=MODEL,
        seed=seed,
    )
    back = found["text"].map(experiment.task.streams.moves_back)
    back = back.groupby(problems["split"].to_numpy()).mean()
    rows = rows.assign(moves_back=rows["split"].map(back))
    return rows if has_dfs(experiment) else table(pd.concat([rows, own_rows(experiment)]))


def has_dfs(experiment: Experiment) -> bool:
    """Whether the study of guided DFS has Self-Backtracking's rows."""
    return experiment.profile.settings(DfsSettings) is not None


STUDIES = (
    Study(
        name="table_2_dfs",
        section="dfs",
        settings=DfsSettings,
        rows=dfs_rows,
        requests=dfs_requests,
        title="Table 2: depth-first search",
        remark=solved_by("symbolic_dfs", "dfs", "self_backtracking"),
    ),
    Study(
        name="table_2_stream",
        section="stream",
        settings=StreamSettings,
        rows=stream_rows,
        requests=stream_requests,
        title="Table 2: Stream of Search",
        remark=solved_by("stream_of_search"),
    ),
)
