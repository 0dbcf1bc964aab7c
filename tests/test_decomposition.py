"""The decomposition is exact, and each verdict follows from intervals by the stated rule."""

import pandas as pd
import pytest

from lib.evaluation.claims import RULE, claims_table, verdict
from lib.evaluation.decomposition import beside_paper, decomposition, size_gap
from lib.evaluation.outcomes import outcome_table
from lib.evaluation.results import headline, row, table
from lib.evaluation.statistics import Difference, difference, wilson_interval
from lib.tasks.task import BAD_RESULT


def cell(method, accuracy, model="S", split="seen", artifact="table_1", problems=1000, **more):
    low, high = wilson_interval(accuracy * problems, problems)
    values = {"checker": "strict", "accuracy": accuracy, "low": low, "high": high} | more
    return row(artifact, method, model=model, split=split, problems=problems, **values)


def search(accuracy, depth=1, breadth=32, **more):
    return cell("self_backtracking", accuracy, N=breadth, b=depth, **more)


def verdicts(rows):
    return claims_table(table(rows)).set_index("claim")["verdict"].to_dict()


def test_decomposition_and_size_gap_are_exact():
    rows = []
    for model, coverage, accuracy in (("S", 0.9, 0.81), ("L", 0.8, 0.76)):
        rows.append(search(accuracy, model=model, artifact="figure_4"))
        rows.append(cell("pass_at_n", coverage, model=model, artifact="figure_4", N=32, b=1))
    parts = decomposition(table(rows)).set_index("model")
    assert parts["selection"].to_dict() == {"L": 0.95, "S": 0.9}
    assert parts.loc["S", "selection_low"] == pytest.approx(wilson_interval(810, 900)[0])
    gap = size_gap(decomposition(table(rows))).iloc[0]
    assert gap["gap"] == pytest.approx(-0.05)
    assert gap["from_coverage"] == pytest.approx(-0.1 * 0.925)
    assert gap["from_selection"] == pytest.approx(0.05 * 0.85)
    assert gap["from_coverage"] + gap["from_selection"] == pytest.approx(gap["gap"])


def test_difference_is_newcombes():
    # Newcombe (1998), method 10: 56/70 against 48/80 is 0.2 [0.0524, 0.3339].
    a, b = (pd.Series(cell("m", s / n, problems=n)) for s, n in ((56, 70), (48, 80)))
    found = difference("x", a, b)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], "not tested"),
        ([(0.41, 0.5)], "reproduced"),
        ([(0.4, 0.5)], "direction reproduced, size not"),
        ([(0.41, 0.5), (0.39, 0.5)], "direction reproduced, size not"),
        ([(0.41, 0.5), (0.001, 0.5)], "direction reproduced, size not"),
        ([(0.41, 0.5), (0.0, 0.5)], "not reproduced"),
        ([(0.0, 0.3)], "not reproduced"),
        ([(-0.3, 0.0)], "not reproduced"),
        ([(-0.3, -0.1)], "reversed"),
        ([(-0.3, -0.1), (-0.1, 0.1)], "not reproduced"),
        ([(-0.3, -0.1), (0.1, 0.2)], "not reproduced"),
    ],
)
def test_verdict(intervals, expected):
    assert verdict([Difference("x", 0, 0, *each, margin=0.4) for each in intervals]) == expected


def test_claims_without_rows_are_not_tested():
    assert set(verdicts([]).values()) == {"not tested"}
    assert set(verdicts([cell("sft_greedy", 0.4)]).values()) == {"not tested"}


def test_claims_reproduced():
    rows = []
    for model, lead in (("S", 0.0), ("L", -0.1)):
        for split in ("seen", "new"):
            at = {"model": model, "split": split}
            rows += [cell("sft_greedy", 0.3 + lead, **at)]
            rows += [search(0.8 + lead, 0, 8, **at), search(0.82 + lead, 0, 32, **at)]
            rows += [search(0.8 + lead, 1, 8, **at), search(0.88 + lead, 1, 32, **at)]
            rows += [cell("best_of_n", a + lead, N=n, **at) for n, a in ((8, 0.5), (32, 0.4))]
            rows += [
                cell(
                    "self_improved_greedy", 0.4 + 0.1 * n + lead, artifact="figure_3", round=n, **at
                )
                for n in range(4)
            ]
    rows += [*computing("S", 0.5, ("seen", "new")), *computing("L", 0.2, ("seen", "new"))]
    found = verdicts(rows)
    assert {number for number, each in found.items() if each == "reproduced"} == {1, 2, 3, 4, 5, 6}
    assert found[7] == "not tested"
    evidence = claims_table(table(rows)).set_index("claim")["evidence"]
    assert "S seen, b=1 N=32: 88.0 against 30.0, +58.0 [+54" in evidence[1]


def test_both_recipes_are_judged_the_papers_first():
    rows = []
    for split in ("seen", "new"):
        rows += [cell("sft_greedy", 0.3, split=split), search(0.9, split=split)]
        rows += [cell("paper_recipe", 0.5, N=32, b=1, split=split)]
    found = claims_table(table(rows))
    first = found[found["claim"] == 1]
    assert first["verdict"].tolist() == ["direction reproduced, size not", "reproduced"]
    assert [text.rpartition(". (")[2] for text in first["text"]] == [
        "The paper's recipe.)",
        "Our recipe.)",
    ]
    assert "50.0 against 30.0" in first["evidence"].iloc[0]
    assert "90.0 against 30.0" in first["evidence"].iloc[1]
    assert found["claim"].value_counts()[[4, 6, 7]].tolist() == [1, 1, 1]


def computing(model, share, splits=("seen",)):
    """SFT greedy solves 40%; this share of its failures has a wrong result in a step."""
    errors = {"artifact": "figure_5", "error": BAD_RESULT, "share": share}
    return [cell("sft_greedy", 0.4, model, split=split, **errors) for split in splits]


def test_claim_3_compares_both_at_the_same_breadths():
    rows = [cell("best_of_n", a, N=n) for n, a in ((8, 0.6), (16, 0.55), (32, 0.5))]
    # From N=2 on it rises, from N=8 on it falls.
    rows += [search(a, 1, n, artifact="figure_4") for n, a in ((2, 0.4), (8, 0.8), (32, 0.7))]
    assert verdicts(rows)[3] == "not reproduced"
    rows[-1] = search(0.9, 1, 32, artifact="figure_4")
    assert verdicts(rows)[3] == "reproduced"
    # The figure's own copy of the rows does not count twice, nor does the ceiling count.
    more = [cell("best_of_n", 0.1, N=2, artifact="best_of_n"), cell("sft_pass_at_n", 0.9, N=8)]
    assert verdicts([*rows, *more])[3] == "reproduced"
    # One breadth in common, or none: half a claim.
    assert verdicts(rows[:3] + rows[3:5])[3] == "not tested"


def test_claims_against():
    rows = [cell("sft_greedy", 0.7), search(0.75), search(0.6, 0)]
    rows += [search(0.5, split="new"), search(0.9, model="L"), search(0.7, model="L", split="new")]
    found = verdicts(rows)
    assert found[1] == "direction reproduced, size not"  # a gain, but less than claimed
    assert found[2] == "reversed"
    assert found[5] == "reversed"
    assert found[6] == "not tested"  # who computes better is not known


@pytest.mark.parametrize(
    ("share", "judged"), [(0.25, "reproduced"), (0.5, "not reproduced"), (0.9, "not reproduced")]
)
def test_claim_6_asks_that_the_larger_model_computes_better_and_loses(share, judged):
    rows = [search(0.8), search(0.6, model="L"), *computing("S", 0.5), *computing("L", share)]
    assert verdicts(rows)[6] == judged
    evidence = claims_table(table(rows)).set_index("claim")["evidence"][6]
    right = 100 * (1 - 0.6 * share)
    assert f"without a wrong result in a step, L against S: {right:.1f} against 70.0" in evidence


def test_a_wide_interval_is_not_reproduced():
    rows = [search(0.8, problems=100), search(0.8, problems=100, split="new")]
    assert verdicts(rows)[5] == "not reproduced"


def test_headline_takes_the_strict_checker_and_the_papers_rule_and_pools_seeds():
    rows = [
        search(0.9, selection="first", seed=1),
        search(0.8, selection="mean_logprob", seed=1),
        search(0.6, selection="mean_logprob", seed=2),
        search(0.99, selection="mean_logprob", seed=1, checker="published"),
    ]
    (only,) = headline(table(rows)).to_dict("records")
    assert only["accuracy"] == pytest.approx(0.7) and only["problems"] == 2000
    assert only["selection"] == "mean_logprob"
    assert only["low"] == pytest.approx(wilson_interval(1400, 2000)[0])


def test_beside_paper():
    rows = table([search(0.8), search(0.8, breadth=4)])
    found = beside_paper(rows)["paper"]
    assert found[0] == 0.7354 and pd.isna(found[1])


@pytest.mark.parametrize(
    ("searched", "expected"),
    [
        (0.80, "reproduced"),  # 50 points
        (0.72, "direction reproduced, size not"),  # 42, and the interval reaches below 40
        (0.40, "direction reproduced, size not"),
        (0.31, "not reproduced"),
        (0.20, "reversed"),
    ],
)
def test_every_verdict_of_a_claim_with_a_margin(searched, expected):
    rows = [cell("sft_greedy", 0.3), search(searched)]
    assert verdicts(rows)[1] == expected
    assert verdicts([])[1] == "not tested"


@pytest.mark.parametrize(
    ("new", "expected"),
    [(0.80, "reproduced"), (0.76, "not reproduced"), (0.70, "reversed"), (0.90, "not reproduced")],
)
def test_every_verdict_of_claim_5(new, expected):
    rows = [search(0.8, problems=4000), search(new, problems=4000, split="new")]
    assert verdicts(rows)[5] == expected


def test_the_rule_names_every_margin_and_verdict():
    for text in ("40 points in claim 1", "10 in claim 2", "within 5 points", "paired"):
        assert text in RULE
    for name in ("reproduced", "direction reproduced, size not", "not reproduced", "reversed"):
        assert f"*{name}*" in RULE


def outcomes_of(rows, correct, **columns):
    """Outcomes of one row each: which problems, from the first on, are right, and their targets."""
    parts = []
    for each, right in zip(rows, correct, strict=True):
        named = {
            name: each.get(name) for name in ("artifact", "method", "model", "split", "N", "b")
        }
        part = pd.DataFrame(
            {"problem": range(len(right)), "correct": right, "seed": 0, "tokens": 1}
        )
        parts.append(part.assign(target=[i % 20 for i in range(len(right))], **named, **columns))
    return outcome_table(parts)


def test_outcomes_pair_what_was_asked_of_both():
    """Three points on the same 500 problems, which alone are too few to tell from chance."""
    rows = [cell("sft_greedy", 0.5, problems=500), search(0.53, problems=500)]
    right = [i < 250 for i in range(500)], [i < 265 for i in range(500)]
    alone = claims_table(table(rows)).set_index("claim")
    paired = claims_table(table(rows), outcomes_of(rows, right)).set_index("claim")
    assert alone.loc[1, "verdict"] == "not reproduced"
    assert paired.loc[1, "verdict"] == "direction reproduced, size not"
    assert "S seen, b=1 N=32: 53.0 against 50.0, +3.0 [+" in paired.loc[1, "evidence"]
    # Of rows without outcomes the intervals stay as they are.
    none = claims_table(table(rows), outcomes_of(rows[:1], right[:1])).set_index("claim")
    assert none.loc[1, "evidence"] == alone.loc[1, "evidence"]


def test_both_sizes_are_compared_on_the_same_problems():
    rows = [search(0.6, problems=1000), search(0.55, model="L", problems=500)]
    rows += [*computing("S", 0.5), *computing("L", 0.25)]
    # On the 500 that both were asked, S solves 450.
    right = [i < 450 or 500 <= i < 650 for i in range(1000)], [i < 275 for i in range(500)]
    greedy = [cell("sft_greedy", 0.4, model) for model in "SL"]
    wrong = [i < 200 for i in range(500)], [i < 200 for i in range(500)]
    found = outcome_table(
        [outcomes_of(rows[:2], right), outcomes_of(greedy, wrong, error=BAD_RESULT)]
    )
    found.loc[found["correct"], "error"] = None
    claim = claims_table(table(rows), found).set_index("claim").loc[6]
    assert "seen, b=1 N=32, S against L: 90.0 against 55.0, +35.0" in claim["evidence"]
    assert "in a step, L against S: 40.0 against 40.0, +0.0" in claim["evidence"]
    assert claim["verdict"] == "not reproduced"


def test_claims_of_another_task_say_so():
    rows = [cell("sft_greedy", 0.3, task="adding"), search(0.9, task="adding")]
    found = claims_table(table(rows)).set_index("claim")
    assert found.loc[1, "evidence"].startswith("on the task adding, not the paper's: S seen, b=1")
    assert found.loc[3, "evidence"] == ""
