"""The README's section: a round trip on a temporary repository, and bytes that repeat."""

import pytest

from commands.figures import main
from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.evaluation.results import row, table, write_results
from lib.evaluation.statistics import wilson_interval
from studies import catalogue
from studies.report.page import (
    BEGIN,
    END,
    draw_all,
    in_a_line,
    linked,
    render,
    short_results,
    updated,
)

MANIFEST = {
    "profile": "smoke",
    "seed": 1,
    "commit": "abc1234",
    "data_hash": "feed",
    "hardware": {"processor": "Example CPU", "cores": 2},
    "durations_s": {"data": 10, "training": 290},
}


def cell(artifact, method, accuracy, **columns):
    low, high = wilson_interval(100 * accuracy, 100)
    shared = {"model": "S", "checker": "strict", "problems": 100, "tokens_per_problem": 30}
    return row(artifact, method, accuracy=accuracy, low=low, high=high, **(shared | columns))


@pytest.fixture
def rows():
    made = []
    for split in ("seen", "new"):
        made.append(cell("table_1", "sft_greedy", 0.3, split=split))
        made.append(cell("table_1", "self_backtracking", 0.86, split=split, N=32, b=1))
    return table(made)


@pytest.fixture
def repository(tmp_path, rows):
    (tmp_path / "README.md").write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe rest.\n")
    write_results(tmp_path / "figures" / "smoke" / "results.json", MANIFEST, rows)
    return tmp_path


def test_the_page(rows):
    text = render(MANIFEST, rows)
    command = "`make reproduce PROFILE=smoke SEED=1`"
    assert f"{command} on Example CPU (2 cores) in 5 min; seed 1, commit abc1234, data feed" in text
    assert "by `make figures PROFILE=smoke SEED=1`." in text
    assert "| SFT, greedy | **30.0** [21.9, 39.6] (paper 28.6) |" in text
    assert "| Self-Backtracking b=1 N=32 | **86.0** [77.9, 91.5] (paper 73.5) |" in text
    assert "| **reproduced** |" in text and "L, seen" not in text
    assert "](table_1.png)" in text and "figure_4.png" not in text and "[results.json]" in text
    assert text == render(MANIFEST, rows.sample(frac=1, random_state=0))


def test_the_short_results(rows):
    text = short_results(MANIFEST, rows, "figures/smoke")
    assert "| SFT, greedy decoding | 30.0 (28.6) | 30.0 (28.9) |  |  |" in text
    assert "| **Self-Backtracking, b=1** | 86.0 (73.5) | 86.0 (73.8) |  |  |" in text
    assert "| **reproduced** |" in text and text.count("\n| ") < 24
    assert "](figures/smoke/table_1.png)" in text and "(figures/smoke/README.md)" in text
    assert "seed 1, commit abc1234" in text and "(figures/smoke/results.json)" in text


def test_the_page_shows_the_audit_and_the_ratios_of_a_run_that_has_no_more():
    shared = {"model": "S", "problems": 100, "low": 0.7, "high": 0.9, "accuracy": 0.8}
    rows = [
        row(
            "audit",
            "self_backtracking",
            switch="published_checker",
            split=split,
            **shared,
            **{"base": 0.89, "difference": -0.09, "difference_low": -0.1, "difference_high": -0.08},
        )
        for split in ("seen", "new", None)
    ]
    rows.append(cell("table_3", "self_backtracking", 0.7, split="seen", N=8, b=1, ratio=1.0))
    text = render(MANIFEST | {"profile": "gpu"}, table(rows))
    assert "In part: the published checker (-9.0 [-10.0, -8.0])." in text
    assert "| the published checker | 89.0 | -9.0 [-10.0, -8.0] |" in text
    assert "| seen | b=1 N=8 | **70.0** [60.4, 78.1] (paper 67.6) |" in text


def test_a_seed_with_a_folder_of_its_own(repository, rows):
    readme = (repository / "README.md").read_text()
    manifest = MANIFEST | {"profile": "gpu"}
    write_results(repository / "figures/gpu-1/results.json", manifest, rows)
    assert main(["--profile", "gpu", "--seed", "1"], repository) == 0
    assert "**86.0**" in (repository / "figures/gpu-1/README.md").read_text()
    assert (repository / "README.md").read_text() == readme
    assert (repository / "figures/gpu-1/table_1.png").exists()
    assert not (repository / "figures/gpu").exists()
    assert main(["--profile", "gpu", "--seed", "1", "--check"], repository) == 0
    assert main(["--profile", "gpu", "--seed", "2"], repository) == 1  # it has none
    named = ["--runs", str(repository / "elsewhere")]  # then the committed results are not meant
    assert main(["--profile", "gpu", "--seed", "1", *named], repository) == 1


def test_a_seed_that_was_not_run_is_not_shown_as_another_ones(repository, capsys):
    assert main(["--profile", "smoke", "--seed", "7"], repository) == 1
    assert "results of seed 1, and there is no run" in capsys.readouterr().err


def test_first_results_in_a_line(rows):
    small = cell("table_1", "self_backtracking", 0.5, split="seen", N=8, b=1)
    shallow = cell("table_1", "self_backtracking", 0.7, split="seen", N=32, b=0)
    rows = table([*rows.to_dict("records"), small, shallow])
    assert in_a_line(rows) == (
        "S: SFT, greedy 30.0 (seen), SFT, greedy 30.0 (new),"
        " Self-Backtracking 86.0 (seen), Self-Backtracking 86.0 (new)"
    )
    assert in_a_line(table([])) == ""


def test_render_without_rows():
    assert "not tested" in render({"profile": "cpu"}, table([]))


def test_round_trip(repository, monkeypatch):
    monkeypatch.setattr("commands.figures.README_PROFILE", "smoke")
    readme = repository / "README.md"
    assert main(["--profile", "smoke", "--check"], repository) == 1
    assert "old" in readme.read_text()
    assert main(["--profile", "smoke"], repository) == 0
    text = readme.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n\n![") and text.endswith("The rest.\n")
    assert "old" not in text
    figures = {
        path.name: path.read_bytes() for path in (repository / "figures" / "smoke").iterdir()
    }
    assert {"README.md", "table_1.png", "table_1.svg", "tokens.png", "methods.svg"} <= set(figures)
    assert main(["--profile", "smoke", "--check"], repository) == 0
    assert main(["--profile", "smoke"], repository) == 0
    assert readme.read_text() == text
    for path in (repository / "figures" / "smoke").iterdir():
        assert path.read_bytes() == figures[path.name], path.name


def test_mistakes_are_one_line(repository, capsys, monkeypatch):
    for arguments, message in (
        (["--profile", "cpu"], "no results yet"),
        (["--profile", "../x"], "not a profile's name"),
    ):
        assert main(arguments, repository) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    monkeypatch.setattr("commands.figures.README_PROFILE", "smoke")
    (repository / "README.md").write_text("no markers\n")
    assert main(["--profile", "smoke"], repository) == 1
    assert "README.md: it must have the line" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_markers_must_be_there_once_and_in_order(text):
    with pytest.raises(UserError, match="once"):
        updated(text, "section")


def test_no_figure_without_rows(tmp_path):
    assert draw_all(table([]), MANIFEST, tmp_path) == []
    names = [figure.name for figure in catalogue.figures()]
    assert len(set(names)) == len(names)


def test_the_readme_is_read_in_a_minute():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 12 * 1024 and len(text.splitlines()) <= 180


def test_every_page_shows_the_committed_results():
    assert main(["--profile", "cpu", "--check"]) == 0
    assert main(["--profile", "gpu", "--check"]) == 0
    assert main(["--profile", "gpu", "--seed", "1", "--check"]) == 0
    assert main(["--profile", "pretrained", "--check"]) == 0


def test_notebooks_link_to_those_executed_that_are_there(tmp_path):
    plain = (
        "| [01_data](notebooks/01_data.ipynb) | x |\n| [05_analysis](notebooks/05_analysis.ipynb) |"
    )
    folder = tmp_path / "figures" / "cpu" / "notebooks"
    assert linked(plain, folder, tmp_path) == plain
    folder.mkdir(parents=True)
    (folder / "05_analysis.ipynb").write_text("{}")
    executed = " ([executed](figures/cpu/notebooks/05_analysis.ipynb))"
    shown = linked(plain, folder, tmp_path)
    assert shown == plain.replace("05_analysis.ipynb)", f"05_analysis.ipynb){executed}")
    assert linked(shown, folder, tmp_path) == shown
    (folder / "05_analysis.ipynb").unlink()
    assert linked(shown, folder, tmp_path) == plain


def test_claim_1_of_the_gpu_run_is_said():
    """The paper's margin is not reached there, and the page says what is."""
    page = (ROOT / "figures" / "gpu" / "README.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith("| 1 | Self-Backtracking"))
    assert "+15.9" in line and "+19.1" in line
    assert line.endswith("| **direction reproduced, size not** |")
