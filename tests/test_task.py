"""The task interface: a second task (tests/adding.py) is one file, and the rest works with it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from adding import Adding
from test_outcomes import assert_means

from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.outcomes import FILE, read_outcomes
from lib.evaluation.results import read_results
from lib.evaluation.scoring import evaluate_responses, evaluate_search
from lib.experiment import experiment as experiment_module
from lib.profiles.load import PROFILES, load_profile
from lib.search.selection import SELECTION_RULES
from lib.tasks.countdown.rules import ERRORS
from lib.tasks.countdown.task import make_task
from lib.tasks.sudoku.rules import ERRORS as ERRORS_OF_SUDOKU
from lib.tasks.task import EARLIER, KINDS, load_task
from lib.training import trainer
from studies import catalogue
from studies.catalogue import open_experiment
from studies.paper import figure_3

TASK = '[task]\nmodule = "adding"\n\n[task.settings]\nmost = 10\n\n'
SMALL = {"hidden_size": 16, "layers": 1, "heads": 2, "batch_size": 4, "trunk_examples": 8,
         "branch_examples": 8, "train_problems": 40, "test_problems": 6, "rounds": 1,
         "validation_problems": 1, "problems": 4, "breadth": 4, "epochs": 1}  # fmt: skip


def write_profile(path, small, sections=(), task=TASK):
    """Smoke with another task and hardly any of everything; of the studies these sections."""
    parts = re.split(r"(?m)^(?=(?:#.*\n)*\[)", (PROFILES / "smoke.toml").read_text())
    names = [re.search(r"^\[(\w+)", part, flags=re.MULTILINE) for part in parts]
    needed = {"data", "traces", "models", "training", "search", "improvement", *sections}
    kept = [part for part, name in zip(parts, names, strict=True) if name and name[1] in needed]
    text = (task + "".join(kept)).replace("near_miss = 0.5\n", "")  # Countdown's
    for key, value in small.items():
        kind = r"\[" if isinstance(value, list) else r"(?!\[)"
        text = re.sub(rf"^{key} = {kind}.*", f"{key} = {value}", text, flags=re.MULTILINE)
    path.write_text('description = "sums"\n\n' + text)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adding")
    write_profile(folder / "sums.toml", SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "ROOT", folder)
        made = open_experiment(str(folder / "sums.toml"), 3)
    assert made.run.folder == folder / "runs" / "sums-3"
    return made


def test_a_second_task_trains(experiment):
    trunk = experiment.checkpoint("S", "trunk")
    branch = experiment.checkpoint("S", "backtracking")
    assert (trunk.name, branch.name) == ("S-trunk", "S-backtracking")
    assert (branch.path / "model.safetensors").exists()
    _, tokenizer = experiment.load(branch)
    assert tokenizer.base.tokenize("12+7;19.done") == [*"12+7;19.", "done"]
    assert list(experiment.loss_curve(trunk).columns) == ["step", "examples", "loss"]


def test_a_second_task_is_searched_decoded_and_improved(experiment, monkeypatch):
    checkpoint = experiment.checkpoint("S", "backtracking")
    problems = experiment.problems("seen")
    found = experiment.search(checkpoint, problems, experiment.spec(4, 1, temperature=1.0))
    trees = experiment.read_trees(found)
    assert [tree.prompt for tree in trees] == experiment.task.prompts(problems)
    steps = [node.text for tree in trees for node in tree.nodes if node.kind == "step"]
    assert not any("." in text for text in steps)
    assert all(tree.step_end == "." for tree in trees)
    rules = {"mean_logprob": SELECTION_RULES["mean_logprob"]}
    rows = evaluate_search(trees, problems, experiment.task, rules)
    assert set(rows.problems) == {6}
    decoded = experiment.decode(checkpoint, problems)
    assert set(evaluate_responses(decoded.text, problems, experiment.task).split) == {"seen"}
    assert list(decoded.columns) == ["text", "tokens", "logprob"] and len(decoded) == 6
    # Two steps teach a model nothing: its correct paths are made up.
    correct = pd.DataFrame({"problem": [0, 2], "response": ["9.done", "12.done"]})
    monkeypatch.setattr(figure_3, "correct_responses", lambda *_: correct)
    for control, name in ((False, "S-improved1"), (True, "S-control1")):
        assert figure_3.self_improved(experiment, "S", 1, control).name == name


def test_nothing_is_made_twice(experiment, monkeypatch):
    problems = experiment.problems("seen")
    first = experiment.search(
        experiment.checkpoint("S", "backtracking"), problems, experiment.spec(4, 1, temperature=1.0)
    )

    def fail(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(trainer, "train", fail)
    monkeypatch.setattr(experiment_module, "search_to_file", fail)
    again = experiment.search(
        experiment.checkpoint("S", "backtracking"), problems, experiment.spec(4, 1, temperature=1.0)
    )
    assert again == first


def test_branches_see_what_the_trunk_did_not(experiment):
    prompts = {
        stage: [re.match(r"[^;]*;", text)[0] for text in experiment.traces("S", stage).text]
        for stage in ("trunk", "sft", "backtracking")
    }
    train = experiment.task.prompts(experiment.problems("train"))
    assert prompts["trunk"] == train[:8]
    assert prompts["sft"] == prompts["backtracking"] == train[8:16]
    kinds = experiment.traces("S", "backtracking").kind.value_counts().to_dict()
    assert kinds == {"optimal": 4, "computation": 4}
    rounds = figure_3.round_problems(experiment, "S", 1)
    assert experiment.task.prompts(rounds) == train[16:20]


def test_problems_wrap_around(experiment):
    whole = experiment.problems("train")
    wrapped = experiment.problems("train", len(whole) - 1, 3)
    pd.testing.assert_frame_equal(wrapped, whole.iloc[[-1, 0, 1]].reset_index(drop=True))
    count = len(experiment.problems("seen"))
    with pytest.raises(UserError, match=f"asks for {count + 1} of the split 'seen'.* are {count}"):
        experiment.problems("seen", 1, count)  # a test problem would count twice


def test_countdown_is_a_task():
    task = make_task({"numbers": 3, "max_number": 9, "target_low": 1, "target_high": 20,
                      "max_result": 81, "held_out": 0.1})  # fmt: skip
    table = task.make_problems({"seen": 3, "train": 2}, 0)
    assert [prompt[:12] for prompt in task.prompts(table)] == ["###Question:"] * 5
    traces = task.optimal_traces(table)
    for row, prompt, text in zip(
        table.to_dict("records"), task.prompts(table), traces.text, strict=True
    ):
        response = text.removeprefix(prompt)
        assert task.check(row, response).correct and task.check(row, "").error in ERRORS


@pytest.mark.parametrize(
    "module", ["lib.nosuch", "lib.experiment.artifacts", "nosuch", "", ".store"]
)
def test_a_missing_task_is_named(module):
    with pytest.raises(
        UserError, match=rf"^task\.module = '{re.escape(module)}': no task there"
    ) as error:
        load_task(module, {})
    assert "\n" not in str(error.value)


STUDIES = ("instruments", "baselines", "compute", "larger_model", "bfloat16", "self_improvement",
           "rollback_gain", "ratios", "audit", "expansions")  # fmt: skip


#: Enough training for some right answers, and temperature for some wrong ones.
TRAINED = {"train_problems": 4_000, "temperature": 1.2, "breadths": [1, 4], "hidden_size": 32,
           "trunk_examples": 512, "branch_examples": 256, "batch_size": 8, "samples": 4,
           "validation_problems": 8, "examples": 32, "problems": 16, "reward_paths": 16,
           "pairs": 8, "evaluated": 3, "fresh": 16}  # fmt: skip


def reproduced(profile):
    """The folder of a whole run of this profile: all five notebooks, with seed 3."""
    command = [sys.executable, "-m", "commands.reproduce", "--profile", str(profile)]
    command += ["--seed", "3", "--runs", str(profile.parent)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    made = profile.parent / f"{profile.stem}-3"
    assert len(list((made / "notebooks").glob("0?_*.html"))) == 5
    return made


@pytest.mark.slow
def test_a_second_task_runs_all_notebooks(tmp_path):
    """Every study that a profile can ask of a task with nothing but what it must give."""
    write_profile(tmp_path / "sums.toml", SMALL | TRAINED | {"most": 5}, STUDIES)
    made = reproduced(tmp_path / "sums.toml")
    _, rows = read_results(made / "figures" / "results.json")
    assert set(rows["checker"].dropna()) == {"strict"}
    assert {"table_1", "figure_3", "figure_4", "figure_5", "claims"} <= set(rows["artifact"])
    assert set(rows["error"].dropna()) == set(Adding.errors)
    assert set(rows.loc[rows["artifact"] == "table_1", "task"]) == {"adding"}
    assert beside_paper(rows)["paper"].isna().all()  # its numbers are of another task
    assert not {"figure_7", "verdicts", "leakage"} & set(rows["artifact"])
    outcomes = read_outcomes(made / "figures" / FILE)  # no targets, and no sets of numbers
    assert_means(rows, outcomes)
    assert outcomes[["target", "numbers_seen"]].isna().all(axis=None)
    told = rows.loc[rows["artifact"] == "claims", "evidence"].dropna()
    assert told.str.startswith("on the task adding").any()


SUDOKU = """[task]
module = "lib.tasks.sudoku"
settings = { box_rows = 2, box_columns = 2, fewest_givens = 12, most_givens = 14, held_out = [13] }

"""


@pytest.mark.slow
def test_sudoku_runs_all_notebooks(tmp_path):
    """A task with a solver and a form, and without what is Countdown's alone."""
    # So little training finds hardly a right answer: rewards are learned from D_op and D_back.
    more = {"depths": [0, 1, 2], "sources": ["paper"]}
    studies = ("instruments", "baselines", "compute")
    write_profile(tmp_path / "grids.toml", SMALL | TRAINED | more, studies, SUDOKU)
    made = reproduced(tmp_path / "grids.toml")
    _, rows = read_results(made / "figures" / "results.json")
    wanted = {"table_1", "best_of_n", "verdicts", "search_loss", "compute", "figure_3", "figure_5"}
    assert wanted <= set(rows["artifact"])
    assert set(rows.loc[rows["artifact"] == "table_1", "b"].dropna()) == {0, 1, 2}
    assert not {"leakage", "table_2"} & set(rows["artifact"])
    assert set(rows["error"].dropna()) <= {*ERRORS_OF_SUDOKU, *KINDS, EARLIER}
    assert_means(rows, read_outcomes(made / "figures" / FILE))


def test_what_a_task_lacks_is_not_asked_of_it(tmp_path):
    asked = {
        "dfs": "[dfs]\nbudgets = [8]\nsamples = 8\ntemperature = 0.7\n",
        "near_miss": "",
        "public": "",
    }
    for key, section in asked.items():
        write_profile(tmp_path / "sums.toml", SMALL)
        text = (tmp_path / "sums.toml").read_text() + "\n" + section
        if key == "near_miss":
            text = text.replace("mix = 1.0\n", "mix = 1.0\nnear_miss = 0.5\n")
        if key == "public":
            text = text.replace("[data]\n", '[data]\npublic = "mine"\n')
        (tmp_path / "sums.toml").write_text(text)
        with pytest.raises(UserError, match=rf"{key}.*'adding' has nothing for it") as error:
            open_experiment(str(tmp_path / "sums.toml"), 0)
        assert "\n" not in str(error.value)


def test_a_summary_counts_the_problems_of_each_split():
    counts = {"seen": 3, "new": 2}
    adding, countdown = Adding(10), load_profile("smoke").load_task()
    for task, columns in ((adding, ["problems"]), (countdown, ["problems", "targets"])):
        found = task.summary(task.make_problems(counts, 0))
        assert found["problems"].to_dict() == counts and list(found) == columns
