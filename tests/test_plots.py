"""Every figure draws from few rows and from many, clips nothing, and gives the same bytes twice."""

import matplotlib
import pandas as pd
import pytest

from lib.base.errors import UserError
from lib.drawing.style import MODEL_COLOURS, handle, legend, panels, save_figure, whole
from lib.evaluation.results import row, table
from lib.evaluation.statistics import wilson_interval
from lib.profiles.load import load_profile
from lib.tasks.countdown.rules import ERRORS
from studies.paper import (
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    figure_13,
    table_1,
    tables_3_and_4,
)
from studies.report.show import kind_remark, kind_shares

matplotlib.use("Agg")
MANIFEST = {"profile": "smoke", "seed": 1, "commit": "abc1234", "data_hash": "feed"}


def cell(artifact, method, accuracy, **columns):
    low, high = wilson_interval(100 * accuracy, 100)
    shared = {"checker": "strict", "problems": 100, "tokens_per_problem": 20}
    return row(artifact, method, accuracy=accuracy, low=low, high=high, **(shared | columns))


def make_rows(models):
    made = []
    for at in ({"model": m, "split": s} for m in models for s in ("seen", "new")):
        made += [cell("table_1", m, 0.4, **at) for m in ("sft_greedy", "sft_beam")]
        for breadth in (8, 16):
            for depth in (0, 1):
                setting = at | {"N": breadth, "b": depth}
                made += [
                    cell(a, "self_backtracking", 0.8, **setting) for a in ("table_1", "figure_4")
                ]
                made.append(cell("figure_4", "pass_at_n", 0.9, **setting))
                for ratio in ("1:0.5", "1:1"):
                    made.append(cell("table_3", "self_backtracking", 0.7, ratio=ratio, **setting))
                made += [
                    cell("figure_13", "self_backtracking", 0.7, temperature=t, **setting)
                    for t in (0.3, 1.0)
                ]
        for number in range(3):
            made.append(cell("figure_3", "self_improved_greedy", 0.4, round=number, **at))
            made.append(cell("figure_3", "control_greedy", 0.3, round=number, **at))
        made += [
            row("figure_5", "sft_greedy", error=e, share=0.25, accuracy=0.4, failures=60, **at)
            for e in ERRORS
        ]
    for model in models:
        made += [
            row("figure_6", "sft", model=model, stage="trunk", step=n, loss=1 / (n + 1))
            for n in range(30)
        ]
    return table(made)


FIGURES = (
    table_1.accuracy_bars,
    table_1.accuracy_by_method,
    table_1.accuracy_against_tokens,
    figure_3.accuracy_by_round,
    figure_4.accuracy_against_breadth,
    figure_5.error_types,
    figure_6.loss_curves,
    figure_13.accuracy_against_temperature,
    tables_3_and_4.accuracy_against_ratio,
)
ONE, BOTH = make_rows(["S"]), make_rows(["S", "L"])


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("rows", [ONE, BOTH], ids=["S", "S and L"])
def test_figure_is_whole(draw, rows):
    figure = draw(rows)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    width, height = figure.bbox.width, figure.bbox.height
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width
    for axes in figure.axes:
        tight = axes.get_tightbbox()
        assert tight.x0 >= -1 and tight.x1 <= width + 1 and tight.y1 <= height + 1
        assert tight.y0 >= box.y1 - 1  # the legend stands below every panel
        sizes = [text.get_fontsize() for text in [*axes.texts, *axes.get_xticklabels()]]
        assert min(sizes, default=9) >= 9


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_figure_without_rows_says_so(draw):
    with pytest.raises(UserError, match="have no rows"):
        draw(table([]))
    with pytest.raises(UserError, match="have no rows"):
        draw(table([row("audit", "self_backtracking", accuracy=0.5)]))


def test_bars_have_the_rows_heights_and_the_papers_numbers():
    panel = table_1.accuracy_bars(ONE).axes[0]
    heights = sorted(bar.get_height() for bar in panel.patches)
    assert heights == [0.4, 0.4, 0.8, 0.8]
    drawn = [list(line.get_ydata()) for line in panel.lines if line.get_marker() == "D"]
    assert sorted(drawn[0])[:2] == [0.286, 0.3168]


def test_saved_figure_repeats_and_says_what_made_it(tmp_path):
    first = save_figure(table_1.accuracy_bars(ONE), tmp_path / "a", "table_1", MANIFEST)
    second = save_figure(table_1.accuracy_bars(ONE), tmp_path / "b", "table_1", MANIFEST)
    assert [path.name for path in first] == ["table_1.png", "table_1.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert b"profile smoke, seed 1, commit abc1234, data feed" in one.read_bytes()
    assert b"<dc:date>" not in first[1].read_bytes()


def test_a_legend_of_many_long_names_stays_within_the_figure():
    figure, _ = panels(1, 2)
    legend(figure, [handle(f"a method with a long name, {i}", "black") for i in range(13)])
    figure.draw_without_rendering()
    [made] = figure.legends
    box = made.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and len(made.texts) == 13


def test_operator_shares_by_split(monkeypatch):
    monkeypatch.setattr("lib.drawing.style.plt.close", lambda figure: None)
    problems = pd.DataFrame({"split": ["new", "seen"], "solution": ["8/2=4", "1+2=3\n3*4=12"]})
    counts = load_profile("smoke").load_task().step_kinds(problems)
    figure = kind_shares(counts)
    monkeypatch.undo()
    bars = [[patch.get_height() for patch in axes.patches] for axes in figure.axes]
    assert bars == [[0, 0, 0, 1.0], [0.5, 0, 0.5, 0]]
    assert "differ most in `/`: 0% of the steps of `seen` and 100% of `new`" in kind_remark(counts)
    with pytest.raises(UserError, match="names none"):
        kind_shares(pd.DataFrame())
    assert kind_remark(pd.DataFrame()) == ""
    # A notebook shows pyplot's figures: any other, before one of them, would be text alone.
    assert figure.canvas.manager is not None
    matplotlib.pyplot.close(figure)


@pytest.mark.parametrize("stages", [["trunk", "sft"], ["sft", "trunk"], ["sft"]])
@pytest.mark.parametrize("models", ["SL", "LS", "L"])
def test_a_stage_of_training_has_its_panel_and_a_model_its_colour(stages, models):
    rows = [
        row("figure_6", model=model, stage=stage, step=n, loss=1)
        for stage in stages
        for model in models
        for n in (0, 1)
    ]
    figure = figure_6.loss_curves(table(rows))
    titles = [axes.get_title().split(":")[0] for axes in figure.axes]
    assert titles == [{"trunk": "trunk", "sft": "SFT"}[each] for each in sorted(stages)[::-1]]
    for axes in figure.axes:
        whole = [line.get_color() for line in axes.lines if line.get_alpha() is None]
        assert whole == [MODEL_COLOURS[each] for each in sorted(models)[::-1]]


def test_labels_are_rounded_half_up():
    shares = (0.0, 0.005, 0.285, 0.4949, 0.505, 0.545, 0.625, 1.0)
    assert [whole(share) for share in shares] == ["0", "1", "29", "49", "51", "55", "63", "100"]
    texts = {text.get_text() for text in table_1.accuracy_bars(half_rows()).axes[0].texts}
    assert texts == {"51"}


def half_rows():
    """An accuracy that Python's own rounding would show as 50."""
    return table([cell("table_1", "sft_greedy", 0.505, model="S", split="seen")])


def test_a_method_that_chooses_among_paths_has_their_ceiling():
    at = {"model": "S", "split": "seen", "N": 8}
    rows = [
        cell("table_1", "sft_greedy", 0.4, model="S", split="seen"),
        cell("table_1", "best_of_n", 0.5, **at),
        cell("best_of_n", "sft_pass_at_n", 0.9, **at),
        cell("best_of_n", "sft_sampled_vote", 0.3, **at),  # Table 1 has it at the largest N
        cell("table_1", "self_backtracking", 0.7, b=1, **at),
        cell("table_1", "pass_at_n", 0.8, b=1, **at),
    ]
    (panel,) = table_1.accuracy_by_method(table(rows)).axes
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert names == ["Self-Backtracking b=1 N=8", "SFT, reward model's choice N=8", "SFT, greedy"]
    size = table_1.TICK_MARK["markersize"]  # caps of intervals are smaller
    (ticks,) = (line for line in panel.lines if line.get_markersize() == size)
    ceilings = dict(zip(ticks.get_ydata().round(), ticks.get_xdata(), strict=True))
    assert ceilings[0] == 0.8 and ceilings[1] == 0.9 and pd.isna(ceilings[2])


@pytest.mark.parametrize("rows", [ONE, BOTH], ids=["S", "S and L"])
@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_no_colour_means_two_things_in_a_figure(draw, rows):
    (legend,) = draw(rows).legends
    handles = legend.legend_handles
    looks = [
        (str(each.get_facecolor()),)
        if isinstance(each, matplotlib.patches.Patch)
        else (each.get_color(), each.get_marker(), each.get_linestyle())
        for each in handles
    ]
    assert len(set(looks)) == len(looks) <= 8


def test_a_figure_along_one_value_is_not_drawn():
    (figure,) = figure_13.STUDY.figures
    assert figure.has_rows(ONE) and not figure.has_rows(ONE[ONE["temperature"] != 0.3])
    assert not figure.has_rows(ONE.drop(columns="temperature"))


def test_the_temperature_moves_samples_and_not_beams():
    at = {"model": "S", "split": "seen", "N": 8, "b": 1}
    accuracies = {"self_backtracking": (0.70, 0.71), "self_backtracking_samples": (0.7, 0.5)}
    rows = [
        cell("figure_13", method, accuracy, temperature=temperature, **at)
        for method, pair in accuracies.items()
        for temperature, accuracy in zip((0.1, 0.9), pair, strict=True)
    ]
    told = figure_13.remark(table(rows))
    assert "From 0.1 to 0.9 the temperature moves the accuracy of beams by 1.0 points" in told
    assert "independent samples by 20.0 (mean" in told and "without replacement" in told
    assert figure_13.remark(table(rows[:2])).startswith("Accuracy by temperature.")


STUDIES = (table_1.STUDY, figure_3.STUDY, figure_5.STUDY, figure_13.STUDY, tables_3_and_4.STUDY)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_study_says_what_it_found_with_its_numbers(study):
    texts = [say for say in (study.remark, study.text) if say]
    assert all(say(table([])) == "" for say in texts)
    said = {
        "table_1": "SFT: S 40.0% (seen) and 40.0% (new)",
        "figure_3": "Greedy decoding: S 40.0% (seen) and 40.0% (new), after round 2",
        "figure_5": "The most frequent failure of each method. SFT, greedy:",
        "figure_13": "b=0 N=16: S 70.0% (seen) and 70.0% (new) at 0.3",
        "tables_3_and_4": "1:0.5 for b=0 N=8",
    }
    assert said[study.name] in study.remark(ONE)
