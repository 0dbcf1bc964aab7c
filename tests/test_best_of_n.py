"""Best-of-N: who chooses among N samples, the rows of an experiment, and the figure's lines."""

import matplotlib
import pandas as pd
import pytest
from sampled_trees import (
    PROBLEMS,
    TASK,
    lenient_checks,  # noqa: F401 (a fixture)
    small_experiment,
    tree,
)

from lib.base.errors import UserError
from lib.evaluation.results import dumps, row, table
from lib.evaluation.states import finished_paths, sample_order
from lib.evaluation.statistics import wilson_interval
from studies.paper import best_of_n
from studies.paper.best_of_n import (
    CEILING,
    CHOICES,
    LOOKS,
    accuracy_by_choice,
    choices,
    held_out,
)

matplotlib.use("Agg")


def test_choices_by_hand():
    made = tree(
        ("3+4=7", (5, 6), 1, "goal"),  # leaf 2, right
        ("4+3=7", (5, 7), 1, "goal"),  # leaf 4, right
        ("3*4=12", (8,), 2, "goal"),  # leaf 6, wrong
        ("4-3=1", (9,), 4, "backtrack"),  # leaf 8, unfinished
    )
    paths = finished_paths([made], PROBLEMS, TASK)
    paths["paper"] = [0.5, 2.0, 1.0]
    paths["own"] = [0.5, 0.2, 1.0]
    paths["mean_logprob"] = [-0.1, -0.9, -0.5]
    found = choices([made], PROBLEMS, TASK, paths, (1, 2, 4, 8), seed=3)
    order = sample_order(made, 3)
    rank = {
        "paper": [4, 6, 2],
        "own": [6, 2, 4],
        "mean_logprob": [2, 6, 4],
    }
    for each in found.itertuples():
        first = order[: each.N]
        present = [leaf for leaf in first if leaf != 8]
        if each.score == "visits":
            probable = [2, 6, 4]
            expected = sorted(set(present), key=lambda x: (-present.count(x), probable.index(x)))
        else:
            expected = [leaf for leaf in rank[each.score] if leaf in present]
        assert (None if pd.isna(each.leaf) else each.leaf) == (expected[0] if expected else None)
        assert each.correct == bool(expected and expected[0] in (2, 4))
        assert each.covered == bool({2, 4} & set(present))
    whole = found[found.N == 8].set_index("score")
    assert whole.leaf.to_dict() == {"paper": 4, "own": 6, "mean_logprob": 2, "visits": 6}
    assert whole.correct.to_dict() == {
        "paper": True, "own": False, "mean_logprob": True, "visits": False,
    }  # fmt: skip
    assert set(whole.tokens) == {2 + 1 + 1 + 1 + 1 + 1 + 1 + 1}


@pytest.mark.slow
@pytest.mark.usefixtures("lenient_checks")
def test_the_rows_of_an_experiment(tmp_path):
    first = small_experiment(tmp_path / "first")
    rows = best_of_n.rows(first)
    strict = rows[rows.checker == "strict"]
    table_1 = strict[strict.artifact == "table_1"]
    keys = ["method", "split", "N"]
    rewarded = ("best_of_n", "best_of_n_own")
    expected = [(name, split, n) for name in rewarded for split in ("new", "seen") for n in (2, 4)]
    others = ("sft_sampled_mean_logprob", "sft_sampled_vote")
    expected += [(name, split, 4) for name in others for split in ("new", "seen")]
    assert sorted(table_1[keys].itertuples(index=False, name=None)) == sorted(expected)
    assert set(strict[strict.artifact == "best_of_n"].method) == {
        *CHOICES.values(),
        CEILING,
    }
    wide = strict[strict.artifact == "best_of_n"].pivot_table("accuracy", ["split", "N"], "method")
    assert (wide.max(axis=1) == wide[CEILING]).all()
    known = held_out(first).set_index("source")
    assert known.index.tolist() == ["paper", "own"]
    # Both are judged on the same samples; of D_op and D_back one half is right.
    assert known["held_out_paths"].nunique() == 1
    assert (known["held_out_paths"] > 0).all()
    assert (known["trained_paths"] > known["held_out_paths"]).all()
    assert known.loc["paper", "trained_right"] == pytest.approx(0.5, abs=0.01)
    assert known["auc_alike"].notna()["paper"]
    made = {path: path.stat().st_mtime_ns for path in first.run.folder.rglob("made.json")}
    assert dumps({}, best_of_n.rows(first)) == dumps({}, rows)
    again = {path: path.stat().st_mtime_ns for path in first.run.folder.rglob("made.json")}
    assert again == made
    second = small_experiment(tmp_path / "second")
    assert dumps({}, best_of_n.rows(second)) == dumps({}, rows)
    assert known.equals(held_out(second).set_index("source"))


def test_a_run_without_the_section_has_no_rows(tmp_path):
    experiment = small_experiment(tmp_path)
    experiment.profile = experiment.profile.with_sections(baselines=None)
    assert not best_of_n.STUDY.wanted(experiment) and held_out(experiment).empty
    assert not list(tmp_path.iterdir())


def cell(artifact, method, accuracy, breadth, **columns):
    low, high = wilson_interval(100 * accuracy, 100)
    shared = {"checker": "strict", "problems": 100, "model": "S", "N": breadth}
    return row(artifact, method, accuracy=accuracy, low=low, high=high, **(shared | columns))


def make_rows():
    made = []
    for split in ("seen", "new"):
        for breadth in (8, 16, 32):
            made += [
                cell("best_of_n", method, 0.5, breadth, split=split)
                for method in (*CHOICES.values(), CEILING)
            ]
        for breadth in (2, 8, 32):
            for depth in (0, 1):
                setting = {"split": split, "b": depth}
                made.append(cell("figure_4", "self_backtracking", 0.8, breadth, **setting))
    return table(made)


def test_its_lines():
    figure = accuracy_by_choice(make_rows())
    assert len(figure.axes) == 2 and set(LOOKS) == {*CHOICES.values(), "self_backtracking"}
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[0] == "SFT, reward model's choice" and len(texts) == len(LOOKS) + 2
    # Self-Backtracking stands at the same N alone, and once: its b=0 is not drawn.
    points = sorted(len(line[0].get_xdata()) for line in figure.axes[0].containers)
    assert points == [2, 3, 3, 3, 3]


def test_a_model_without_best_of_n_has_no_panel():
    found = make_rows()
    others = found[found["artifact"] == "figure_4"].assign(model="L")
    figure = accuracy_by_choice(table([*found.to_dict("records"), *others.to_dict("records")]))
    assert [axes.get_title()[:2] for axes in figure.axes] == ["S,", "S,"]


def test_a_run_without_best_of_n_shows_search_alone():
    rows = make_rows()
    figure = accuracy_by_choice(rows[rows["artifact"] == "figure_4"])
    assert [len(line[0].get_xdata()) for line in figure.axes[0].containers] == [3]
    with pytest.raises(UserError, match="no rows"):
        accuracy_by_choice(rows.iloc[:0])
