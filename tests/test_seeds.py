"""Several seeds on a page: numbers known by hand, and runs that do not belong together."""

import pandas as pd
import pytest

from commands.figures import main
from lib.base.errors import UserError
from lib.evaluation.outcomes import FILE, outcome_table, write_outcomes
from lib.evaluation.results import write_results
from lib.evaluation.scoring import outcome_rows
from studies.report.seeds import (
    over_no_roll_back,
    over_sft,
    pooled,
    read_seeds,
    seed_folders,
    seeds_markdown,
)

#: Of ten problems, how many each seed solves.
SOLVED = {
    ("sft_greedy", None, None): (3, 4, 2),
    ("self_backtracking", 0, 32): (7, 8, 9),
    ("self_backtracking", 1, 32): (8, 9, 10),
}


def outcomes(seed):
    """The first so many of ten problems, of five targets, are solved; both splits alike."""
    parts = [
        pd.DataFrame({"problem": range(10), "target": [i // 2 for i in range(10)]}).assign(
            artifact="table_1", method=method, model="S", split=split, b=b, N=n, seed=seed,
            selection=None if b is None else "mean_logprob", tokens=3, error=None,
            correct=[i < solved[seed] for i in range(10)],
        )
        for (method, b, n), solved in SOLVED.items()
        for split in ("seen", "new")
    ]  # fmt: skip
    return outcome_table(parts)


def write(folder, seed, **settings):
    manifest = {"profile": "smoke", "seed": seed, "settings": settings}
    found = outcomes(seed)
    rows = outcome_rows(found.astype({"selection": object}))
    write_results(folder / "results.json", manifest, rows)
    write_outcomes(folder / FILE, found)


@pytest.fixture
def root(tmp_path):
    for seed in range(3):
        write(tmp_path / "figures" / (f"smoke-{seed}" if seed else "smoke"), seed)
    return tmp_path


def test_each_seed_and_all_together(root):
    found = read_seeds(seed_folders(root, "smoke"))
    table = pooled(found).set_index(["method", "b", "split"])
    greedy = table.xs("sft_greedy").iloc[0]
    assert greedy["mean"] == pytest.approx(0.3) and greedy["low"] < 0.3 < greedy["high"]
    assert greedy["seeds"].to_dict() == {0: 0.3, 1: 0.4, 2: 0.2}
    gains = pooled(found, over_sft).set_index(["b", "split"])
    assert gains.loc[(1, "new"), "mean"] == pytest.approx(0.6)
    assert gains.loc[(1, "new"), "seeds"].tolist() == pytest.approx([0.5, 0.5, 0.8])
    deep = pooled(found, over_no_roll_back)
    assert set(deep["b"]) == {1} and deep["mean"].tolist() == pytest.approx([0.1, 0.1])
    text = seeds_markdown(found)
    assert text.startswith("## Three seeds\n\nSeeds 0, 1, 2. ")
    assert "(80.0, 90.0, 100.0)" in text and "| gain over b=0, points | S, seen | S, new |" in text
    assert "(+50.0, +50.0, +80.0)" in text
    lacks = found[(found["seed"] != 1) | (found["b"] != 1)]  # b=1 of two seeds alone
    assert "(0: 80.0, 2: 100.0)" in seeds_markdown(lacks)


def test_a_setting_that_came_later_is_as_its_default(root):
    write(root / "figures" / "smoke-1", 1, models={"S": {"layers": 4}})
    write(root / "figures" / "smoke-2", 2, models={"S": {"layers": 4, "precision": None}})
    assert read_seeds([root / "figures" / name for name in ("smoke-1", "smoke-2")]) is not None


def test_one_seed_has_no_section(root):
    assert seeds_markdown(outcomes(0)) == seeds_markdown(None) == ""
    assert seed_folders(root, "smoke-1") == [root / "figures" / "smoke-1"]
    assert seed_folders(root, "cpu") == [] and read_seeds([]) is None
    (root / "figures" / "smoke" / FILE).unlink()  # then no seed's are the profile's own
    assert seed_folders(root, "smoke") == []


def test_the_page_has_all_seeds_and_its_claims_too(root, monkeypatch):
    monkeypatch.setattr("commands.figures.draw_all", lambda *_: [])
    assert main(["--profile", "smoke"], root) == 0
    page = (root / "figures" / "smoke" / "README.md").read_text()
    assert "## Three seeds" in page
    assert "Judged by seeds 0, 1, 2 together." in page
    assert "S new, b=1 N=32: 90.0 against 30.0, +60.0" in page
    assert main(["--profile", "smoke", "--check"], root) == 0
    assert main(["--profile", "smoke", "--seed", "1"], root) == 0
    page = (root / "figures" / "smoke-1" / "README.md").read_text()
    assert "seeds" not in page and "S new, b=1 N=32: 90.0 against 40.0, +50.0" in page


@pytest.mark.parametrize(
    ("seed", "settings", "message"),
    [
        (3, {"data": {"train_problems": 1}}, "smoke-3: made with other settings than .*/smoke;"),
        (2, {}, "smoke-3: made with the seed of .*/smoke-2; make it anew or remove it"),
    ],
)
def test_runs_that_do_not_belong_together(root, seed, settings, message):
    write(root / "figures" / "smoke-3", 2, **settings)
    models = {"S": {"layers": 4, "test_problems": 9}, "L": {}}
    write(root / "figures" / "smoke-4", 2, models=models, search={"breadths": [2]})
    assert read_seeds([root / "figures" / name for name in ("smoke-1", "smoke-4")]) is not None
    with pytest.raises(UserError, match=message):
        read_seeds(seed_folders(root, "smoke"))
