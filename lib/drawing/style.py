"""What the figures share: style, panels, axes in percent, legends, and files that repeat.

Takes tidy rows, axes and figures; gives panels by model and split, and PNG and SVG files whose
bytes depend on the drawing and the manifest alone. Knows nothing of any one figure.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from io import BytesIO
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, PercentFormatter, ScalarFormatter

from lib.base.errors import UserError
from lib.base.files import write_atomic
from lib.evaluation.results import headline, table

PALETTE = sns.color_palette("colorblind")
#: One meaning for each colour, in all figures: the models; how deep a search goes (darker is
#: deeper); the methods; how a state is expanded. The test splits are panels, never colours.
MODEL_COLOURS = {"S": PALETTE[0], "L": PALETTE[1]}
DEPTH_COLOURS = ["#c497d8", "#8e44ad", "#5b1a7a", "#2d0440"]
METHOD_COLOURS = {
    "sft": "#7f7f7f",
    "backtracking": PALETTE[5],
    "reward": PALETTE[3],
    "own_reward": "#8c4a2f",
    "vote": "#b8860b",
    "probable": "#6b7a1e",
    "dfs": PALETTE[9],
    "stream": "#e05fa8",
    "improved": PALETTE[2],
}
EXPANSION_COLOURS = {"sample": "#1b7f79", "beam_sample": "#c2385a", "stochastic_beam": "#d99a1c"}
LOSS_COLOUR = "#2f4858"  # where a search is lost: shades of it, the first step the darkest
SPLITS = {"seen": "seen split", "new": "new split"}
METHODS = {
    "sft": "SFT",
    "sft_greedy": "SFT, greedy",
    "sft_beam": "SFT, beam",
    "dpo": "DPO",
    "kto": "KTO",
    "dpo_own": "DPO on own samples",
    "kto_own": "KTO on own samples",
    "best_of_n": "SFT, reward model's choice",
    "best_of_n_own": "SFT, reward model of own samples",
    "sft_sampled_mean_logprob": "SFT, most probable sample",
    "sft_sampled_vote": "SFT, most frequent sample",
    "backtracking_data_greedy": "backtracking data, greedy",
    "backtracking_data_beam": "backtracking data, beam",
    "symbolic_dfs": "DFS, symbolic",
    "dfs": "DFS guided by SFT",
    "stream_of_search": "Stream of Search",
    "guided_stream_of_search": "Guided Stream of Search",
    "paper_recipe_greedy": "the paper's recipe, greedy",
    "paper_recipe": "Self-Backtracking, the paper's recipe",
    "self_backtracking": "Self-Backtracking",
    "self_backtracking_samples": "Self-Backtracking, independent samples",
    "end_of_sequence": "control: no <backtrack>, paths just end",
    "self_improved_greedy": "self-improved, greedy",
    "control_greedy": "control: generator's solutions",
    "pass_at_n": "ceiling: any path right (pass@N)",
    "paper_recipe_pass_at_n": "ceiling of the paper's recipe",
    "samples_pass_at_n": "ceiling of independent samples",
    "end_of_sequence_pass_at_n": "ceiling of the control",
    "sft_pass_at_n": "ceiling of SFT: any sample right",
}
#: Not what a method solves, but what no choice among its paths can pass.
CEILING_METHODS = tuple(name for name in METHODS if name.endswith("pass_at_n"))
MARKERS = "osD^vP*X<>hp"
WIDTH = 9.0  # inches: at 150 dots an inch and a README's 900 pixels, 9-point text stays 12 pixels
PANEL_HEIGHT = 3.1
DPI = 150
FONT = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
PAPER_MARK = {"marker": "D", "markersize": 6, "markerfacecolor": "white", "zorder": 5}
PAPER_MARK |= {"markeredgecolor": "#222222", "markeredgewidth": 1.3, "linestyle": "none"}
#: A ceiling is a bar across, wider than the dot of an accuracy that reaches it.
CEILING_MARK = {"marker": "_", "markersize": 15, "markeredgewidth": 1.8, "linestyle": "none"}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """The style holds while a figure is drawn, and leaves the reader's own settings alone."""

    @wraps(draw)
    def drawn(rows: pd.DataFrame) -> Figure:
        with sns.axes_style("whitegrid"), matplotlib.rc_context(FONT):
            figure = draw(rows)
            for axes in figure.axes:
                axes.tick_params(labelsize=9.5)
                axes.grid(True, color="#e4e4e4", linewidth=0.8)
                axes.set_axisbelow(True)
            # Closed: a notebook then shows the returned figure once, not twice.
            plt.close(figure)
            return figure

    return drawn


def pick(rows: pd.DataFrame, *artifacts: str, need: Iterable[str] = ()) -> pd.DataFrame:
    found = headline(rows, artifacts)
    for column in need:
        found = found.dropna(subset=[column]) if column in found else found.iloc[:0]
    found = found[found["split"].isin(SPLITS) & found["model"].isin(MODEL_COLOURS)]
    if found.empty:
        raise UserError(f"figure of {' and '.join(artifacts)}: the results have no rows for it")
    return found


def present(values: pd.Series, order: Iterable) -> list:
    return [value for value in order if (values == value).any()]


def panels(
    count_rows: int,
    count_columns: int,
    height: float = PANEL_HEIGHT,
    sharey: bool | str = True,
    **how: object,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of panels, each of this height in inches on average; `how` as for `subplots`."""
    width = WIDTH if count_columns > 1 else 0.66 * WIDTH
    figure, axes = plt.subplots(
        count_rows,
        count_columns,
        figsize=(width, height * count_rows + 0.7),
        layout="constrained",
        sharey=sharey,
        squeeze=False,
        **how,
    )
    figure.get_layout_engine().set(h_pad=0.07)
    return figure, axes.tolist()


def grid(found: pd.DataFrame) -> tuple[Figure, list[tuple[Axes, str, str]]]:
    """A panel for each model (rows) and split (columns) that there is; its title has n."""
    models, splits = present(found["model"], MODEL_COLOURS), present(found["split"], SPLITS)
    figure, axes = panels(len(models), len(splits))
    found_panels = []
    for line, model in zip(axes, models, strict=True):
        for panel, split in zip(line, splits, strict=True):
            here = found[(found["model"] == model) & (found["split"] == split)]
            panel.set_title(f"{model}, {SPLITS[split]}{problems_of(here)}")
            found_panels.append((panel, model, split))
        line[0].set_ylabel("accuracy")
    return figure, found_panels


def problems_of(rows: pd.DataFrame) -> str:
    """For a title: how many problems each of these rows is of (the fewest and the most)."""
    known = rows["problems"].dropna().astype(int)
    if known.empty:
        return ""
    least, most = known.min(), known.max()
    return f" (n={least})" if least == most else f" (n={least} to {most})"


def setting(row: Mapping) -> str:
    """The b and N of a row, where it has them: to put behind a method's name."""
    return "".join(f" {name}={row[name]}" for name in ("b", "N") if not pd.isna(row[name]))


def whole(share: float) -> str:
    """A share as whole percent, rounded half up as a reader of the tables would; `-` of nothing."""
    return "-" if math.isnan(share) else f"{math.floor(round(100 * share, 6) + 0.5)}"


def percent(axes: Axes, from_zero: bool = False) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    low, high = axes.get_ylim()
    # A little room below 0 and above 100 keeps markers whole.
    axes.set_ylim(0 if from_zero else max(-0.02, low), min(1.02, high))


def powers(axes: Axes, values: Iterable[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({int(value) for value in values}))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def token_counts(axes: Axes, values: pd.Series) -> None:
    """A logarithmic axis of tokens generated for a problem."""
    axes.set_xscale("log")
    ticks = [digit * 10**power for power in range(1, 6) for digit in (1, 2, 5)]
    low, high = 0.7 * values.min(), 1.4 * values.max()
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def errors(
    line: pd.DataFrame, value: str = "accuracy", low: str = "low", high: str = "high"
) -> list[pd.Series]:
    """How far each interval reaches below and above its value."""
    at, below, above = (line[name].astype(float) for name in (value, low, high))
    return [(at - below).clip(lower=0).fillna(0), (above - at).clip(lower=0).fillna(0)]


def look(depth: int) -> dict:
    """Colour and marker of searches of this b: either alone tells them apart."""
    place = min(int(depth), len(DEPTH_COLOURS) - 1)
    return {"colour": DEPTH_COLOURS[place], "marker": MARKERS[place]}


def curve(axes: Axes, line: pd.DataFrame, x: str, colour: object, **style: object) -> None:
    line = line.sort_values(x)
    at = line[x].astype(float)
    axes.errorbar(
        at,
        line["accuracy"],
        yerr=errors(line),
        color=colour,
        **{"marker": "o", "markersize": 5, "capsize": 3, "linewidth": 1.8, **style},
    )


def legend(figure: Figure, handles: list, columns: int = 4) -> None:
    """A legend in as many columns as fit, up to `columns`."""
    # Below the panels, so that it can cover nothing.
    for count in range(min(columns, len(handles)), 0, -1):
        made = figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=count,
            frameon=False,
            handlelength=2.6,
        )
        if count == 1 or made.get_window_extent().width <= figure.bbox.width:
            return
        made.remove()


def handle(label: str, colour: object, **style: object) -> Line2D:
    return Line2D([], [], label=label, color=colour, **{"marker": "o", "linewidth": 1.8, **style})


def paper_handle(label: str = "the paper (S: its 1B, L: its 3B)") -> Line2D:
    return Line2D([], [], label=label, **PAPER_MARK)


def caption(manifest: Mapping) -> str:
    """What made a figure, for its metadata; no date: the same results give the same bytes."""
    known = {"profile": "profile", "seed": "seed", "commit": "commit", "data_hash": "data"}
    return ", ".join(f"{name} {manifest[key]}" for key, name in known.items() if key in manifest)


def save_figure(figure: Figure, folder: Path, name: str, manifest: Mapping) -> list[Path]:
    """Write name.png and name.svg, whole or not at all -> their paths."""
    folder = Path(folder)
    made = caption(manifest)
    metadata = {
        "png": {"Software": None, "Description": made},
        "svg": {"Date": None, "Creator": None, "Title": name, "Description": made},
    }
    paths = []
    # The salt makes the ids inside an SVG depend on the drawing alone.
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        for kind in ("png", "svg"):
            data = BytesIO()
            figure.savefig(data, format=kind, dpi=DPI, metadata=metadata[kind])
            paths.append(folder / f"{name}.{kind}")
            write_atomic(paths[-1], data.getvalue())
    return paths


def artifact_rows(rows: pd.DataFrame, *artifacts: str) -> pd.DataFrame:
    """The rows of these artifacts, if any."""
    known = table(rows)
    return known[known["artifact"].isin(artifacts)]


def found_rows(rows: pd.DataFrame, *artifacts: str) -> pd.DataFrame:
    """The rows of these artifacts; a `UserError` where there are none."""
    known = artifact_rows(rows, *artifacts)
    if known.empty:
        raise UserError(f"figure of {' and '.join(artifacts)}: the results have no rows for it")
    return known
