"""The README's results section in Markdown: numbers beside the paper's, claims, figures.

Takes a manifest and the rows of lib/evaluation/results.py; gives text, the same for the same
results. Knows nothing of how a row was measured.
"""

from collections.abc import Mapping

import pandas as pd

from lib.drawing.markdown import accuracy, markdown_table
from lib.drawing.style import METHODS
from lib.evaluation.claims import NOT_TESTED, RULE, claims_table, headline
from lib.evaluation.decomposition import beside_paper
from lib.report.gallery import DRAWINGS
from lib.studies.beyond import audit_report, checkers, targets
from lib.studies.paper import ratios


def render(manifest: Mapping, rows: pd.DataFrame) -> str:
    """The results section in Markdown, without its markers."""
    profile = manifest.get("profile", "cpu")
    parts = [_made_by(manifest)]
    if headlines := headline_table(rows):
        parts += [
            "Accuracy in % by the strict checker, with its 95% interval, and the paper's number "
            "(S stands where the paper has its 1B model, L where it has its 3B):",
            headlines,
        ]
    parts += ["### The paper's claims", _claims(rows), f"The rule: {RULE}"]
    parts += [alike] if (alike := targets.like_targets_text(rows)) else []
    if audited := _audit(rows):
        parts += ["### Why users of the published code get less", *audited]
    if by_ratio := ratios.ratio_table(rows):
        parts += ["### D_op : D_back (Tables 3 and 4)", by_ratio]
    if both := checkers.leniency_table(rows):
        folded = (
            f"<details><summary>Every method by both checkers</summary>\n\n{both}\n\n</details>"
        )
        parts += ["### Both checkers", checkers.leniency_text(rows), folded]
    figures = [drawing for drawing in DRAWINGS if drawing.has_rows(rows)]
    if figures:
        parts.append("### Figures")
        bars = "Bars are 95% intervals; hollow diamonds are the paper's own numbers."
        parts.append(bars)
    for drawing in figures:
        path = f"figures/{profile}/{drawing.name}.png"
        parts.append(f"![{drawing.caption}]({path})\n\n*{drawing.caption}*")
    return "\n\n".join(parts)


def brief(manifest: Mapping, rows: pd.DataFrame, folder: str) -> str:
    """Another run's results, in short: accuracies, the published checker, the audit, the ratios.

    Each where the run has it; `folder` is that of its figures.
    """
    made = f"Profile `{manifest['profile']}` on {manifest['hardware']['processor']}"
    made += f", {_known(manifest)}"
    made += f": [results](figures/{folder}/results.json), [figures](figures/{folder})."
    parts = [made, headline_table(rows)]
    parts += [checkers.leniency_text(rows)] if checkers.leniency_table(rows) else []
    parts += _audit(rows)
    if by_ratio := ratios.ratio_table(rows):
        parts += ["D_op : D_back (Tables 3 and 4):", by_ratio]
    return "\n\n".join(part for part in parts if part)


def _audit(rows: pd.DataFrame) -> list[str]:
    audited = audit_report.audit_table(rows)
    gained = "Points of accuracy gained or lost by each switch:"
    return [audit_report.audit_text(rows), gained, audited] if audited else []


def _known(manifest: Mapping) -> str:
    labels = (("seed", "seed"), ("commit", "commit"), ("data_hash", "data"))
    found = [f"{label} {manifest[k]}" for k, label in labels if manifest.get(k) is not None]
    return ", ".join(found)


def _made_by(manifest: Mapping) -> str:
    profile = manifest.get("profile", "cpu")
    hardware = manifest.get("hardware") or {}
    settings = f"PROFILE={profile}"
    if seed := manifest.get("seed"):  # that of 0 is the default
        settings += f" SEED={seed}"
    sentence = f"Made by `make reproduce {settings}`"
    if hardware.get("processor"):
        sentence += f" on {hardware['processor']}"
        sentence += f" ({hardware['cores']} cores)" if hardware.get("cores") else ""
    if durations := manifest.get("durations_s"):
        sentence += f" in {_duration(sum(durations.values()))}"
    known = _known(manifest)
    sentence += f"; {known}" if known else ""
    return (
        f"{sentence}. This section and its figures are drawn from "
        f"[results.json](figures/{profile}/results.json) by `make figures {settings}`."
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def headline_table(rows: pd.DataFrame) -> str:
    """Tables 1 and 2 in Markdown, ours beside the paper's; empty where there are no such rows."""
    found = headline(rows, ["table_1", "table_2"])
    found = found[found["model"].isin(["S", "L"]) & found["split"].isin(["seen", "new"])]
    if found.empty:
        return ""
    found = beside_paper(found).drop_duplicates(["method", "N", "b", "model", "split"])
    place = {name: number for number, name in enumerate(METHODS)}
    found = found.assign(place=found["method"].map(place).fillna(len(place)))
    cells = [(m, s) for m in ("S", "L") for s in ("seen", "new")]
    cells = [c for c in cells if ((found["model"] == c[0]) & (found["split"] == c[1])).any()]
    lines = []
    keys = ["place", "method", "b", "N"]
    for (_, method, depth, breadth), group in found.groupby(keys, dropna=False, sort=True):
        name = METHODS.get(method, method.replace("_", " "))
        setting = (("b", depth), ("N", breadth))
        name += "".join(f" {key}={value:.0f}" for key, value in setting if not pd.isna(value))
        shown = [name]
        for model, split in cells:
            cell = group[(group["model"] == model) & (group["split"] == split)]
            shown.append(accuracy(cell.iloc[0]) if len(cell) else "")
        small = group.loc[group["model"] == cells[0][0], "tokens_per_problem"].mean()
        shown.append("" if pd.isna(small) else f"{small:.0f}")
        lines.append(shown)
    head = ["method", *(f"{model}, {split}" for model, split in cells)]
    return markdown_table([*head, f"tokens a problem ({cells[0][0]})"], lines)


def in_a_line(rows: pd.DataFrame) -> str:
    """Table 1 in a line for each model: SFT greedy, and the deepest search at its largest N."""
    lines = []
    for model, found in headline(rows, ["table_1"]).groupby("model"):
        search = found[found["method"] == "self_backtracking"]
        search = search[search["b"] == search["b"].max()]
        search = search[search["N"] == search["N"].max()]
        kept = pd.concat([found[found["method"] == "sft_greedy"], search])
        shown = []
        for row in kept.sort_values(["method", "split"], ascending=False).to_dict("records"):
            shown.append(f"{METHODS[row['method']]} {100 * row['accuracy']:.1f} ({row['split']})")
        lines.append(f"{model}: {', '.join(shown)}")
    return "\n".join(lines)


def _claims(rows: pd.DataFrame) -> str:
    lines = []
    for claim in claims_table(rows).to_dict("records"):
        # A bare <backtrack> would be taken for an HTML tag and vanish.
        text = claim["text"].replace("<backtrack>", "`<backtrack>`")
        judged = claim["verdict"]
        shown = judged if judged == NOT_TESTED else f"**{judged}**"
        lines.append([str(claim["claim"]), text, claim["evidence"].replace("; ", "<br>"), shown])
    return markdown_table(["", "claim", "this run", "verdict"], lines)
