"""The searches that Table 2 puts beside Self-Backtracking: Stream of Search, and DFS guided by SFT.

Takes an experiment whose profile has a `[stream]` or `[dfs]` section, and problems; gives
checkpoints, responses and tidy rows. Knows nothing of how a search goes
(lib/tasks/countdown/search_streams.py, lib/search/guided_dfs.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from lib.base import files
from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import Experiment, progress_bar
from lib.search import decoding
from lib.search.guided_dfs import guided_search, step_sampler

SEARCH_AT_ONCE = 512


def stream_traces(experiment: Experiment, model: str) -> pd.DataFrame:
    """What a Stream of Search model learns from: searches of the problems of the other branches."""
    settings = experiment.profile.stream
    start = experiment.profile.models[model].trunk_examples
    inputs = {
        "data": experiment.data.key,
        "start": start,
        "examples": settings.examples,
        "max_tokens": settings.max_tokens,
        "seed": experiment.seed,
    }

    def make(folder: Path) -> None:
        problems = experiment.problems("train", start, settings.examples)
        found = experiment.task.streams.traces(problems, settings.max_tokens, experiment.seed)
        files.write_parquet(folder / "traces.parquet", found)

    artifact = experiment.run.make(f"streams/{model}", inputs, make)
    return files.read_parquet(artifact.path / "traces.parquet")


def stream_checkpoint(experiment: Experiment, model: str) -> Artifact:
    """The branch that learned streams, from the trunk that every branch starts from."""
    settings = experiment.profile.stream
    pretrained = experiment.profile.models[model].path
    trunk = None if pretrained else experiment.checkpoint(model, "trunk")
    inputs = {
        "data": experiment.data.key,
        "parent": trunk.key if trunk else pretrained,
        "examples": settings.examples,
        "max_tokens": settings.max_tokens,
        "seed": experiment.seed,
    }
    return experiment.train(
        f"models/{model}-stream",
        inputs,
        lambda: experiment.start(model, trunk),
        lambda: stream_traces(experiment, model),
        settings.recipe,
    )


def streamed(experiment: Experiment, model: str, problems: pd.DataFrame) -> pd.DataFrame:
    """Streams of these problems, decoded greedily: columns text, tokens, answer (the response)."""
    checkpoint = stream_checkpoint(experiment, model)
    prompts = experiment.task.prompts(problems)
    limit = experiment.profile.stream.max_tokens
    inputs = {"checkpoint": checkpoint.key, "prompts": files.digest(prompts), "limit": limit}
    inputs |= experiment.precision_inputs

    def make(folder: Path) -> None:
        network, tokenizer = experiment.load_fast(checkpoint)
        with progress_bar("Stream of Search", "problem", len(prompts)) as bar:
            found = decoding.greedy(network, tokenizer, prompts, limit, on_progress=bar.update)
        rows = [{"text": one.text, "tokens": len(one.tokens)} for one in found]
        files.write_atomic(folder / "streams.json", json.dumps(rows))

    made = experiment.run.make(f"decode/{checkpoint.name}", inputs, make)
    found = pd.DataFrame(files.read_json(made.path / "streams.json"))
    rows = zip(problems.itertuples(index=False), found["text"], strict=True)
    return found.assign(answer=[experiment.task.streams.answer(*each) for each in rows])


def stream_rows(experiment: Experiment, model: str, problems: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of the answers that streams end in; a stream itself is no answer."""
    found = streamed(experiment, model, problems)
    rows = scoring.evaluate_responses(
        found["answer"],
        problems,
        experiment.task,
        artifact="table_2",
        method="stream_of_search",
        tokens=found["tokens"],
        model=model,
        seed=experiment.seed,
    )
    back = found["text"].map(experiment.task.streams.moves_back)
    back = back.groupby(problems["split"].to_numpy()).mean()
    return rows.assign(moves_back=rows["split"].map(back))


def guided(experiment: Experiment, model: str, problems: pd.DataFrame) -> pd.DataFrame:
    """DFS guided by the SFT model, each budget one row a problem: N, response, tokens, visits.

    The smaller budgets' searches are the beginning of the largest one's.
    """
    settings = experiment.profile.dfs
    checkpoint = experiment.checkpoint(model, "sft")
    prompts = experiment.task.prompts(problems)
    inputs = {
        "checkpoint": checkpoint.key,
        "prompts": files.digest(prompts),
        **asdict(settings),
        "seed": experiment.seed,
        **experiment.precision_inputs,
    }

    def make(folder: Path) -> None:
        network, tokenizer = experiment.load_fast(checkpoint)
        limit = experiment.max_new_tokens(tokenizer)
        sampler = step_sampler(network, tokenizer, experiment.task.step_end, limit)
        asked = list(problems.itertuples(index=False))
        found = []
        with progress_bar("DFS guided by SFT", "problem", len(prompts)) as bar:
            for start in range(0, len(prompts), SEARCH_AT_ONCE):
                part = slice(start, start + SEARCH_AT_ONCE)
                found += guided_search(
                    sampler,
                    tokenizer,
                    prompts[part],
                    asked[part],
                    max(settings.budgets),
                    settings.samples,
                    settings.temperature,
                    experiment.seed,
                    experiment.task.goal_test,
                    experiment.task.step_end,
                    on_progress=bar.update,
                )
        rows = []
        for budget in settings.budgets:
            for index, search in enumerate(found):
                steps, tokens = search.within(budget)
                response = None
                if steps is not None:
                    lines = (*(f"{step}{experiment.task.step_end}" for step in steps),)
                    response = "".join(lines) + experiment.task.goal
                visits = min(budget, len(search.visits))
                row = {"problem": index, "N": budget, "response": response}
                rows.append(row | {"tokens": tokens, "visits": visits})
        files.write_parquet(folder / "searches.parquet", pd.DataFrame(rows))

    made = experiment.run.make(f"dfs/{checkpoint.name}", inputs, make)
    return files.read_parquet(made.path / "searches.parquet")


def guided_rows(experiment: Experiment, model: str, problems: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of guided DFS by budget (column N: states visited)."""
    found = guided(experiment, model, problems)
    parts = []
    for budget, searches in found.groupby("N"):
        rows = scoring.evaluate_responses(
            searches["response"].tolist(),
            problems,
            experiment.task,
            artifact="table_2",
            method="dfs",
            tokens=searches["tokens"],
            model=model,
            seed=experiment.seed,
            N=int(budget),
            temperature=experiment.profile.dfs.temperature,
        )
        visits = searches.groupby(problems["split"].to_numpy())["visits"].mean()
        parts.append(rows.assign(visits=rows["split"].map(visits)))
    return pd.concat(parts, ignore_index=True)


def rows(experiment: Experiment, model: str, problems: pd.DataFrame) -> pd.DataFrame:
    """Table 2's rows of the methods that the profile asks for; an empty table if it asks none."""
    parts = []
    if experiment.profile.dfs is not None:
        parts.append(guided_rows(experiment, model, problems))
    if experiment.profile.stream is not None:
        parts.append(stream_rows(experiment, model, problems))
    return table(pd.concat(parts, ignore_index=True)) if parts else table([])
