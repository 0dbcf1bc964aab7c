"""Figures and the written answer, on rows whose numbers are known."""

import numpy as np
import pytest

from lib.base.errors import UserError
from lib.drawing import markdown
from lib.evaluation.results import row, table
from lib.evaluation.scoring import accuracy_row
from studies.beyond import equal_compute, larger_model_answer, verdicts
from studies.beyond.larger_model import BASE, DISTINCT, JUDGE, SHIFT, TEMPERATURE
from studies.beyond.larger_model_answer import HOLDS, OPEN, REFUTED, answer, judged


def gap(remedy, split, moved, half, applied="L"):
    values = {"accuracy_S": 0.8, "accuracy_L": 0.7 + moved, "gap": 0.1 - moved}
    values |= {"gap_low": 0.1 - moved - half, "gap_high": 0.1 - moved + half}
    values |= {"moved": moved, "moved_low": moved - half, "moved_high": moved + half}
    letter = {SHIFT: "b", JUDGE: "d", DISTINCT: "a", TEMPERATURE: "a"}.get(remedy)
    columns = {"split": split, "N": 8, "b": 1, "problems": 500}
    return row("gap", **columns) | values | {"remedy": remedy, "letter": letter, "applied": applied}


def rows_of_everything():
    rows = [gap(BASE, split, 0.0, 0.0) for split in ("seen", "new")]
    for remedy, moved, half in ((SHIFT, 0.06, 0.03), (JUDGE, 0.0, 0.01), (TEMPERATURE, 0.02, 0.04)):
        for applied in ("L", "both"):
            rows += [gap(remedy, split, moved, half, applied) for split in ("seen", "new")]
    return table(rows)


def test_causes_are_judged_by_the_rule():
    found = judged(rows_of_everything()).set_index("remedy")["verdict"].to_dict()
    assert found == {SHIFT: HOLDS, JUDGE: REFUTED, TEMPERATURE: OPEN}


def test_the_answer_is_written_from_the_rows():
    text = answer(rows_of_everything())
    assert "L loses. S against L: seen split 80.0 against 70.0, a gap of +10.0" in text
    assert "P(`<backtrack>`) is miscalibrated: **holds**" in text
    assert "seen +6.0 [+3.0, +9.0]" in text
    # The paper's gap: (73.54 - 64.12 + 73.78 - 61.98) / 2 = 10.61, less 6.
    assert "gap is +10.6 points" in text and "would leave a gap of +4.6" in text
    assert "make reproduce PROFILE=paper" in text
    shuffled = rows_of_everything().sample(frac=1, random_state=0)
    assert set(answer(shuffled).split()) == set(text.split())


def test_where_l_does_not_lose_no_cause_is_said_to_hold():
    rows = rows_of_everything()
    ahead = rows["artifact"] == "gap"
    for column in ("gap", "gap_low", "gap_high"):
        rows.loc[ahead, column] -= 0.15
    text = answer(rows)
    assert "L does not lose. S against L:" in text and "no cause is judged" in text
    said = text.split("The rule: ")[0]
    assert "loses because" not in said and "**holds**" not in said
    assert "takes off the gap seen +6.0 [+3.0, +9.0]" in said  # what is measured is still told
    assert "L does not lose here, so that no remedy is predicted to close it" in said


def test_the_answer_with_one_model_and_with_nothing():
    assert "no hypotheses" in answer(table([]))
    columns = {"artifact": "remedy", "model": "S", "split": "seen"}
    made = {"gain": 0.01, "gain_low": 0.0, "gain_high": 0.02, "setting": 1.0}
    rows = [
        accuracy_row([True], **columns) | made | {"remedy": name, "letter": letter}
        for name, letter in ((BASE, None), (SHIFT, "b"))
    ]
    text = answer(table(rows))
    assert "trained S alone" in text
    assert "(b) S, shifted `<backtrack>` (validation chose 1): seen +1.0 [+0.0, +2.0]" in text


def test_figures_of_causes():
    assert larger_model_answer.draw_remedies(rows_of_everything()).axes
    with pytest.raises(UserError, match="no rows"):
        larger_model_answer.draw_remedies(table([]))


def searched(method, b, n, temperature, tokens, accuracy, split="seen"):
    outcomes = np.arange(100) < 100 * accuracy
    columns = {"artifact": "compute", "model": "S", "split": split, "checker": "strict"}
    return accuracy_row(
        outcomes, method=method, b=b, N=n, temperature=temperature, tokens_per_problem=tokens,
        **columns,
    ) | {"ceiling": accuracy}  # fmt: skip


@pytest.mark.parametrize(
    "draw",
    [
        equal_compute.against_tokens,
        equal_compute.against_breadth,
        equal_compute.against_temperature,
        equal_compute.against_depth,
    ],
)
def test_figures_of_compute(draw):
    rows = []
    for split in ("seen", "new"):
        for n in (1, 4, 16):
            for method in ("sft_sampled", "self_consistency", "self_backtracking"):
                rows.append(searched(method, 0, n, 0.7, 12.0 * n, 0.3 + 0.02 * n, split))
        for temperature in (0.3, 1.2):
            for method, b in (
                ("sft_sampled", 0),
                ("self_backtracking", 0),
                ("self_backtracking", 1),
            ):
                rows.append(searched(method, b, 4, temperature, 50.0, 0.4 + 0.1 * b, split))
        for b in (1, 2):
            rows.append(searched("self_backtracking", b, 4, 0.7, 60.0 + 10 * b, 0.5, split))
        rows.append(searched("sft_beam", None, 4, None, 100.0, 0.35, split))
    figure = draw(table(rows))
    assert [axes.get_title() for axes in figure.axes] == [
        "S, seen split (n=100)",
        "S, new split (n=100)",
    ]


def test_a_run_without_studies_shows_sentences_and_empty_tables():
    empty = table([])
    assert "no rows" in markdown.shown(verdicts.verdict_curves, empty)
    assert larger_model_answer.evidence(empty) == ""
    told = larger_model_answer.evidence(rows_of_everything()).splitlines()
    assert len(told) == 2 + 2 + 1 + 3 * 2  # a sentence, the head, and a line a remedy
    assert told[4].startswith("|  | as measured |  | +10.0 [+10.0, +10.0], +0.0 [+0.0, +0.0] | +1")
    line = (
        "| b | shifted `<backtrack>` | L | +4.0 [+1.0, +7.0], +6.0 [+3.0, +9.0] | +4.0 [+1.0, +7.0]"
    )
    assert any(each.startswith(line) for each in told)
