"""The README's results in short: one figure, eight rows, one line for each claim of the paper.

Takes a manifest and the rows of lib/evaluation/results.py; gives Markdown and puts it between the
README's two markers. The whole of it is on the run's page (lib/report/page.py).
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lib.base.errors import UserError
from lib.drawing.markdown import markdown_table
from lib.drawing.style import METHODS
from lib.evaluation.claims import NOT_TESTED, claims_table, headline
from lib.evaluation.decomposition import beside_paper
from lib.report.page import made_by
from lib.report.publish import NOTEBOOKS

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
#: The table's rows: method, b, and how it is called here.
ROWS = (
    ("sft_greedy", None, "SFT, greedy decoding"),
    ("sft_beam", None, "SFT, beam search"),
    ("best_of_n", None, "SFT, best of N by a reward model"),
    ("dpo", None, "DPO, greedy"),
    ("backtracking_data_greedy", None, "Self-Backtracking's model, greedy (no search)"),
    ("self_backtracking", 0, "**Self-Backtracking, b=0**"),
    ("self_backtracking", 1, "**Self-Backtracking, b=1**"),
    ("pass_at_n", 1, "its ceiling: some path found is right"),
)
CELLS = [(model, split) for model in ("S", "L") for split in ("seen", "new")]


def short_results(manifest: Mapping, rows: pd.DataFrame, folder: str) -> str:
    """The results between the README's markers; `folder` is that of the run's page."""
    parts = [f"![{METHODS['self_backtracking']} beside SFT]({folder}/table_1.png)"]
    if table := short_table(rows):
        breadth = headline(rows, ["table_1"])["N"].max()
        parts.append(
            "Accuracy in % on test problems, by the strict checker"
            + ("" if pd.isna(breadth) else f", N={breadth}")
            + "; in brackets the paper's number (its 1B model beside S, its 3B beside L):"
        )
        parts.append(table)
    parts += ["What the paper claims, and what this run says:", claim_lines(rows)]
    made = made_by(manifest).replace("(results.json)", f"({folder}/results.json)")
    made = made.replace("This page and its figures are", "This section is")
    parts.append(f"{made} Every table, figure and interval: [{folder}]({folder}/README.md).")
    return "\n\n".join(parts)


def short_table(rows: pd.DataFrame) -> str:
    """`ROWS` that the results have, each at its largest N; empty without any."""
    found = beside_paper(headline(rows, ["table_1"]))
    lines = []
    for method, depth, name in ROWS:
        here = found[found["method"] == method]
        if depth is not None:
            here = here[(here["b"] == depth).fillna(False)]
        if len(here) and here["N"].notna().any():
            here = here[here["N"] == here["N"].max()]
        cells = {(row["model"], row["split"]): row for row in here.to_dict("records")}
        if cells:
            lines.append([name, *(_cell(cells.get(cell)) for cell in CELLS)])
    return markdown_table(["", *(f"{m}, {split}" for m, split in CELLS)], lines) if lines else ""


def _cell(row: Mapping | None) -> str:
    if row is None:
        return ""
    paper = "" if pd.isna(row["paper"]) else f" ({100 * row['paper']:.1f})"
    return f"{100 * row['accuracy']:.1f}{paper}"


def claim_lines(rows: pd.DataFrame) -> str:
    """One line a claim: its text, the first two numbers of its evidence, its verdict."""
    lines = []
    for claim in claims_table(rows).to_dict("records"):
        text = claim["text"].replace("<backtrack>", "`<backtrack>`")
        judged = claim["verdict"]
        shown = "; ".join(claim["evidence"].split("; ")[:2]) if judged != NOT_TESTED else ""
        verdict = judged if judged == NOT_TESTED else f"**{judged}**"
        lines.append([str(claim["claim"]), text, shown, verdict])
    return markdown_table(["", "claim", "measured", "verdict"], lines)


def updated(readme: str, section: str, path: Path | str = "README.md") -> str:
    """The README's text with this section between its markers; `UserError` without them."""
    ordered = BEGIN in readme and readme.index(BEGIN) < readme.find(END)
    if not (readme.count(BEGIN) == readme.count(END) == 1 and ordered):
        raise UserError(f"{path}: it must have the line {BEGIN} once, and {END} once after it")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{section}\n\n{END}{rest.split(END)[1]}"


def linked(readme: str, folder: Path, root: Path) -> str:
    """The README's text, in which each notebook's link has one to the executed one in `folder`.

    A notebook that is not there has none.
    """
    for name in NOTEBOOKS:
        plain = f"[{name}](notebooks/{name}.ipynb)"
        path = folder / f"{name}.ipynb"
        link = f" ([executed]({path.relative_to(root).as_posix()}))" if path.exists() else ""
        before = re.compile(re.escape(plain) + r"(?: \(\[executed\]\([^)]*\)\))?")
        readme = before.sub(plain + link, readme)
    return readme
