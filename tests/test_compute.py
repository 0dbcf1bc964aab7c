"""The first n of N samples, and accuracy at equal tokens."""

import numpy as np
import pandas as pd
import pytest
from scripted_engine import LINES, ScriptedSampler

from lib.evaluation.results import table
from lib.evaluation.scoring import accuracy_row, search_outcomes
from lib.evaluation.states import first_samples
from lib.profiles.search_spec import SearchSpec
from lib.search.search import search
from lib.search.selection import SELECTION_RULES
from lib.tasks.countdown.problems import make_problems, make_settings
from lib.tasks.countdown.task import CountdownTask
from studies.beyond.equal_compute import (
    against_tokens,
    by_series,
    equal_tokens,
    gain_at_equal_tokens,
)

SETTINGS = dict(numbers=3, max_number=9, target_low=1, target_high=30, max_result=99, held_out=0.1)
TASK = CountdownTask(make_settings(SETTINGS))


def test_all_of_the_samples_are_the_whole_search():
    problems = make_problems(TASK.settings, {"train": 0, "validation": 1, "seen": 20, "new": 1}, 0)
    problems = problems[problems.split == "seen"].reset_index(drop=True)
    prompts = TASK.prompts(problems)
    trees = search(ScriptedSampler(skill=0.7), LINES, prompts, SearchSpec(8, 0))
    rules = ["mean_logprob", "vote"]
    found = first_samples(trees, problems, TASK, [1, 4, 8], rules, seed=3)
    whole = search_outcomes(trees, problems, TASK, {name: SELECTION_RULES[name] for name in rules})
    last = found[found["N"] == 8].sort_values(["problem", "selection"], ignore_index=True)
    for column in ("correct", "covered", "tokens"):
        assert last[column].tolist() == whole[column].tolist(), column
    cost = found.groupby("N")["tokens"].mean()
    assert cost.is_monotonic_increasing
    covered = found.groupby("N")["covered"].mean()
    assert covered.is_monotonic_increasing
    assert found["correct"].mean() > 0


def test_equal_tokens_are_linear_in_their_logarithm():
    def point(method, b, n, tokens, right):
        columns = {"artifact": "compute", "model": "S", "split": "seen", "temperature": 0.7}
        outcomes = [True] * right + [False] * (100 - right)
        return accuracy_row(outcomes, method=method, b=b, N=n, tokens_per_problem=tokens, **columns)

    rows = [
        point("self_backtracking", 0, 4, 50.0, 40),
        point("self_backtracking", 0, 16, 200.0, 60),
        point("sft_sampled", 0, 4, 150.0, 45),
        point("sft_sampled", 0, 8, 300.0, 50),
        point("self_backtracking", 1, 8, 100.0, 55),
    ]
    [cell] = equal_tokens(table(rows)).to_dict("records")
    assert cell["b0_at_equal_tokens"] == pytest.approx(0.5)  # half-way in log tokens
    assert np.isnan(cell["sft_at_equal_tokens"]) and cell["accuracy"] == 0.55
    assert equal_tokens(pd.DataFrame()).empty


def test_a_gain_at_equal_tokens_is_paired():
    deep = pd.DataFrame(
        {"problem": range(20), "tokens": 100.0, "correct": [True] * 15 + [False] * 5}
    )
    parts = [(4, 50.0, 5), (16, 200.0, 15)]
    samples = pd.concat(
        pd.DataFrame(
            {"problem": range(20), "N": n, "tokens": cost, "correct": np.arange(20) < right}
        )
        for n, cost, right in parts
    )
    gain, low, high = gain_at_equal_tokens(deep.sample(frac=1, random_state=0), samples)
    # Half-way in log tokens: nothing lost, and half of each of ten problems gained.
    assert gain == pytest.approx(0.25)
    assert (high - low) / 2 == pytest.approx(
        1.96 * np.std([0.5] * 10 + [0] * 10, ddof=1) / 20**0.5, rel=1e-3
    )
    assert gain_at_equal_tokens(deep.assign(tokens=300.0), samples) is None


def test_the_figure_shows_the_usual_temperature_alone():
    def searched(method, b, n, temperature, tokens, accuracy, split):
        columns = {"artifact": "compute", "model": "S", "split": split, "checker": "strict"}
        columns |= {"method": method, "b": b, "N": n, "temperature": temperature}
        solved = np.arange(100) < 100 * accuracy
        return accuracy_row(solved, tokens_per_problem=tokens, **columns) | {"ceiling": accuracy}

    rows = []
    for split in ("seen", "new"):
        for n in (1, 4, 16):
            for method in ("sft_sampled", "self_consistency", "self_backtracking"):
                rows.append(searched(method, 0, n, 0.7, 12.0 * n, 0.3 + 0.02 * n, split))
        rows.append(searched("self_backtracking", 0, 4, 1.2, 50.0, 0.4, split))
        for b in (1, 2):
            rows.append(searched("self_backtracking", b, 4, 0.7, 60.0 + 10 * b, 0.5, split))
        rows.append(searched("sft_beam", None, 4, None, 100.0, 0.35, split))
    found = by_series(table(rows))
    assert set(found["temperature"]) == {0.7}
    assert set(found["series"]) == {"sft_sampled", "b=0", "b=1", "b=2"}
    titles = [axes.get_title() for axes in against_tokens(table(rows)).axes]
    assert titles == ["S, seen split (n=100)", "S, new split (n=100)"]
