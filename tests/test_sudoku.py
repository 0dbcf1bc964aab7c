"""Sudoku: rules, solver, problems and traces, by hand-solved boards and by brute force."""

import random
from itertools import permutations, product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.base.errors import UserError
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.tasks.sudoku import grids as bulk
from lib.tasks.sudoku import problems, symmetry, traces
from lib.tasks.sudoku.rules import FILLED, GOAL, REPEATED, board_of
from lib.tasks.sudoku.solver import solutions
from lib.tasks.sudoku.task import make_task
from lib.tasks.task import BACKTRACK, BAD_FORMAT, EXPLORATION, FORMAT, NOT_REACHED, RULE, Verdict

SMALL = {"box_rows": 2, "box_columns": 2, "fewest_givens": 5, "most_givens": 8, "held_out": [7]}
MIDDLE = {"box_rows": 2, "box_columns": 3, "fewest_givens": 14, "most_givens": 18,
          "held_out": [16]}  # fmt: skip
FOUR, SIX = board_of(2, 2), board_of(2, 3)
SOLUTION = "1234341221434321"
# By hand: column 3 has a 4, so r1c3 is 3 and r1c4 is 4; box 2 then lacks 1 alone, at r2c3, and r2c1
# is 3; column 1 lacks 2 and 4, and row 3 has 4: r3c1 is 2, r4c1 is 4; 3 is left for r3c4 and r4c2.
PROBLEM = "12...4.2.14...2."
COUNTS = {"train": 60, "validation": 20, "seen": 20, "new": 20}
HOW = SimpleNamespace(loss="paper", kinds=(1.0, 1.0, 1.0))


def sound(grid: str) -> bool:
    """Brute force: no digit twice in a row, column or box of a full 4x4 grid."""
    rows = [grid[at : at + 4] for at in (0, 4, 8, 12)]
    boxes = [rows[r][c : c + 2] + rows[r + 1][c : c + 2] for r in (0, 2) for c in (0, 2)]
    return all(len(set(unit)) == 4 for unit in (*rows, *zip(*rows, strict=True), *boxes))


#: All full 4x4 grids.
EVERY = [
    grid
    for rows in product(map("".join, permutations("1234")), repeat=4)
    if sound(grid := "".join(rows))
]


def filled(grid: str) -> set[str]:
    """Brute force: the full grids that a 4x4 grid can become."""
    return {one for one in EVERY if all(a in (".", b) for a, b in zip(grid, one, strict=True))}


def canonical(grid: str) -> str:
    """Brute force: the least image of a 4x4 grid under the group of symmetry.py."""
    lines = [(0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2), (1, 0, 3, 2)]
    lines += [(*line[2:], *line[:2]) for line in lines]
    images = []
    for rows, columns, mirrored in product(lines, lines, (False, True)):
        order = [(r, c) for r in rows for c in columns]
        cells = "".join(grid[4 * c + r if mirrored else 4 * r + c] for r, c in order)
        names = {digit: str(number) for number, digit in
                 enumerate(dict.fromkeys(cells.replace(".", "")), 1)}  # fmt: skip
        images.append("".join(names.get(digit, ".") for digit in cells))
    return min(images)


def parts() -> st.SearchStrategy[str]:
    """Full 4x4 grids with cells taken out, and now and then one digit changed."""
    changed = st.tuples(st.integers(0, 15), st.sampled_from("1234.."))

    def made(grid: str, kept: list[bool], change: tuple[int, str]) -> str:
        cells = [digit if keep else "." for digit, keep in zip(grid, kept, strict=True)]
        cells[change[0]] = change[1]
        return "".join(cells)

    whole = st.lists(st.booleans(), min_size=16, max_size=16)
    return st.builds(made, st.sampled_from(EVERY), whole, changed)


@pytest.fixture(scope="module")
def small():
    return make_task(SMALL)


@pytest.fixture(scope="module")
def table(small):
    return small.make_problems(COUNTS, 3)


@pytest.fixture(scope="module")
def middle():
    return make_task(MIDDLE).make_problems(COUNTS, 5)


# Rules --------------------------------------------------------------------------------------------


def test_a_board_names_its_cells_and_units():
    assert SIX.names[:7] == ("r1c1", "r1c2", "r1c3", "r1c4", "r1c5", "r1c6", "r2c1")
    assert [SIX.units(cell) for cell in (0, 8, 9, 35)] == [
        (0, 0, 0),
        (1, 2, 0),
        (1, 3, 1),
        (5, 5, 5),
    ]
    assert SIX.peers[0] == (1, 2, 3, 4, 5, 6, 7, 8, 12, 18, 24, 30)
    assert board_of(3, 3).size == 9 and len(board_of(3, 3).peers[40]) == 20
    assert len(EVERY) == 288


def test_the_question_lists_its_givens_as_steps():
    assert FOUR.prompt(PROBLEM) == (
        "###Question: sudoku\nr1c1=1\nr1c2=2\nr2c2=4\nr2c4=2\nr3c2=1\nr3c3=4\nr4c3=2\n"
        "###Response:\n"
    )
    assert FOUR.steps(PROBLEM, SOLUTION)[:3] == ["r1c3=3", "r1c4=4", "r2c1=3"]
    assert FOUR.shown(PROBLEM) == "12..\n.4.2\n.14.\n..2."


@pytest.mark.parametrize("settings", [SMALL, MIDDLE])
def test_a_step_is_two_tokens_and_text_comes_back(settings):
    task = make_task(settings)
    made = task.make_problems({"train": 3}, 1)
    tokenizer = StepTokenizer(build_tokenizer(task.pieces), task.step_end)
    for text in task.optimal_traces(made)["text"]:
        ids = tokenizer.base(text)["input_ids"]
        assert tokenizer.decode(ids) == text and tokenizer.base.unk_token_id not in ids
        assert len(ids) == 2 * task.settings.board.cells + 3
    steps, prompts = tokenizer.step_end_ids, tokenizer.encode_prompts(task.prompts(made))
    assert set(tokenizer.base.convert_ids_to_tokens(steps)) > {"1\n", "4\n"}
    traced = tokenizer.encode_traces(task.optimal_traces(made))
    for row, ids in enumerate(prompts):
        assert traced[row]["input_ids"][: len(ids)].tolist() == ids
        assert len(traced[row]["input_ids"]) - len(ids) <= task.max_response_tokens
    longest = max(made.givens.str.count(r"\.")) * 2 + 2
    assert longest <= task.max_response_tokens


RIGHT = "\n".join([*FOUR.steps(PROBLEM, SOLUTION), GOAL])


@pytest.mark.parametrize(
    ("response", "error", "step"),
    [
        (RIGHT, None, None),
        ("\n".join([*FOUR.steps(PROBLEM, SOLUTION)[::-1], GOAL]), None, None),  # any order
        ("", NOT_REACHED, 0),
        (GOAL, NOT_REACHED, 0),
        (BACKTRACK, NOT_REACHED, 0),
        (RIGHT.removesuffix(GOAL), NOT_REACHED, 9),
        (RIGHT.removesuffix(GOAL) + BACKTRACK, NOT_REACHED, 9),
        (RIGHT + "\n", BAD_FORMAT, 9),
        (RIGHT + " ", BAD_FORMAT, 9),
        ("r1c3=3\n" + GOAL, NOT_REACHED, 1),
        ("r1c3=3\nr1c4", BAD_FORMAT, 1),
        ("r1c3 = 3\n", BAD_FORMAT, 0),
        ("r1c5=1\n", BAD_FORMAT, 0),  # no such cell, no such digit
        ("r1c3=5\n", BAD_FORMAT, 0),
        ("r1c3=0\n", BAD_FORMAT, 0),
        ("r1c3=٣\n", BAD_FORMAT, 0),
        ("r1c1=3\n", FILLED, 0),  # a given
        ("r1c1=1\n", FILLED, 0),  # even with its own digit
        ("r1c3=3\nr1c3=4\n", FILLED, 1),
        ("r1c3=1\n", REPEATED, 0),  # in the row
        ("r1c3=4\n", REPEATED, 0),  # in the column
        ("r1c4=2\n", REPEATED, 0),
        ("r1c3=3\nr2c3=3\n", REPEATED, 1),  # in the box
    ],
)
def test_the_strict_checker(small, response, error, step):
    row = next(pd.DataFrame({"givens": [PROBLEM]}).itertuples(index=False))
    expected = Verdict(error is None, error, step)
    for problem in (PROBLEM, row, {"givens": PROBLEM}):
        assert small.check(problem, response) == expected
    assert error is None or error in small.errors


@given(grid=st.sampled_from(EVERY), kept=st.lists(st.booleans(), min_size=16, max_size=16),
       change=st.tuples(st.integers(0, 15), st.sampled_from("1234")))  # fmt: skip
def test_the_checker_accepts_exactly_the_solutions(grid, kept, change):
    problem = "".join(d if keep else "." for d, keep in zip(grid, kept, strict=True))
    cells = list(grid)
    cells[change[0]] = change[1]
    answer = "".join(cells)
    response = "\n".join([*FOUR.steps(problem, answer), GOAL])
    same = all(a in (".", b) for a, b in zip(problem, answer, strict=True))
    # A changed given is not written; whether the rest is right, the given decides.
    whole = answer if same else "".join(
        a if a != "." else b for a, b in zip(problem, answer, strict=True)
    )  # fmt: skip
    assert FOUR.check(problem, response).correct == (whole in EVERY)


# Solver -------------------------------------------------------------------------------------------


@given(grid=parts())
def test_the_solver_finds_what_brute_force_does(grid):
    expected = filled(grid)
    assert set(solutions(FOUR, grid, 1000)) == expected
    assert len(solutions(FOUR, grid)) == min(2, len(expected))
    assert set(solutions(FOUR, grid)) <= expected


@given(grid=parts(), data=st.data())
def test_states_are_judged_as_brute_force_does(small, grid, data):
    solver = small.solver
    cell, digit = data.draw(st.integers(0, 15)), data.draw(st.sampled_from("1234"))
    step = FOUR.step_text(cell, digit)
    legal = grid[cell] == "." and not FOUR.clashes(grid, cell, digit)
    after = grid[:cell] + digit + grid[cell + 1 :]
    reached = legal and bool(filled(after))
    assert solver.reachable(grid, [step]) == reached
    expected = None if reached else EXPLORATION if legal else RULE
    assert solver.judge_steps(grid, [step]) == expected
    assert solver.judge_steps(grid, ["r1c1"]) == FORMAT
    if reached:
        rest = solver.complete(grid, [step])
        assert FOUR.check(grid, "\n".join([step, *rest, GOAL])).correct
    else:
        with pytest.raises(ValueError):
            solver.complete(grid, [step])
    if not legal:
        with pytest.raises(ValueError):
            solver.judge_steps(grid, [step, step])


@given(grid=parts(), known=st.sampled_from(EVERY))
def test_another_solution_is_found_where_there_is_one(grid, known):
    arrays = [problems.arrays(pd.Series([each]), FOUR) for each in (grid, known)]
    [found] = problems.texts(bulk.other_solutions(FOUR, *arrays))
    others = filled(grid) - {known}
    assert found in others if others else found == "." * 16


def test_givens_leave_one_solution():
    generator = np.random.default_rng(0)
    for board, counts in ((FOUR, (4, 6, 9)), (SIX, (12, 16, 30)), (board_of(3, 3), (34, 80))):
        full = bulk.full_grids(board, 40, generator)
        numbers = generator.choice(counts, len(full))
        made, found = bulk.with_givens(board, full, numbers, generator)
        assert found.mean() > 0.3
        assert ((made > 0).sum(1) == numbers).all()
        for grid, one in zip(problems.texts(made[found]), problems.texts(full[found]), strict=True):
            assert solutions(board, grid) == (one,)


# Symmetries and splits ----------------------------------------------------------------------------


def test_keys_are_those_of_the_stated_group():
    generator = np.random.default_rng(1)
    full = bulk.full_grids(FOUR, 150, generator)
    made, _ = bulk.with_givens(FOUR, full, generator.integers(4, 8, len(full)), generator)
    keys, forms = symmetry.keys(FOUR, made), [*map(canonical, problems.texts(made))]
    assert len({*keys.tolist()}) == len({*forms}) == len({*zip(keys.tolist(), forms, strict=True)})


@pytest.mark.parametrize("sizes", [(2, 2), (2, 3), (3, 2), (3, 3)])
def test_images_share_their_key_and_their_number_of_solutions(sizes):
    board, generator = board_of(*sizes), np.random.default_rng(2)
    full = bulk.full_grids(board, 60, generator)
    made = np.where(generator.random(full.shape) < 0.45, full, 0).astype(np.uint8)
    images = symmetry.random_images(board, made, generator)
    keys = symmetry.keys(board, made)
    assert (symmetry.keys(board, images) == keys).all() and len({*keys.tolist()}) > 55
    assert (images != made).any(1).all()
    for one, other in zip(problems.texts(made[:5]), problems.texts(images[:5]), strict=True):
        assert len(solutions(board, one)) == len(solutions(board, other))


def test_splits_are_disjoint_under_the_symmetries(small, table):
    forms = table.givens.map(canonical)
    for split in ("new", "seen", "validation"):
        assert set(forms[table.split == split]).isdisjoint(forms[table.split != split])
    assert table.givens.is_unique and table["split"].value_counts().to_dict() == COUNTS
    numbers = table.givens.str.count("[1-4]").groupby(table.split).unique().map(sorted)
    assert numbers["new"] == [7] and numbers["train"] == [5, 6, 8]
    again = small.make_problems(COUNTS | {"train": 30}, 3)
    for split in ("new", "seen", "validation"):
        columns = ["givens", "solution"]
        same = [each.loc[each.split == split, columns].values.tolist() for each in (table, again)]
        assert same[0] == same[1]
    assert not small.make_problems(COUNTS, 4).givens.equals(table.givens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box_rows": 4}, "box_rows = 4: must be from 2 to 3"),
        ({"most_givens": 16}, "most_givens = 16: must be less than the board's 16 cells"),
        ({"held_out": [5]}, "held_out = .*: must be numbers between fewest_givens and most_givens"),
        ({"held_out": []}, "held_out = .*: must not be empty"),
        ({"digits": 4}, "digits: no such key"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(UserError, match=f"^task.settings.{message}"):
        make_task(SMALL | change)


def test_a_board_with_too_few_problems_says_so(small, monkeypatch):
    with pytest.raises(UserError, match="'test': no such split"):
        small.make_problems({"test": 1}, 0)
    grid = problems.arrays(pd.Series([PROBLEM]), FOUR)

    def the_same(board, solutions, *_):
        return grid.repeat(len(solutions), 0), np.ones(len(solutions), dtype=bool)

    monkeypatch.setattr(problems, "with_givens", the_same)
    with pytest.raises(UserError, match=r"^new: 3 problems asked, and only about 1 were found"):
        small.make_problems({"new": 3}, 0)


# Traces -------------------------------------------------------------------------------------------


def responses(task, table, made):
    prompts = task.prompts(table)
    assert all(text.startswith(p) for text, p in zip(made["text"], prompts, strict=True))
    assert (made["text"].str.len() == made["mask"].str.len()).all()
    return [text.removeprefix(p) for text, p in zip(made["text"], prompts, strict=True)]


def test_optimal_paths_are_right_and_in_reading_order(small, table):
    made = small.optimal_traces(table)
    for row, answer in zip(table.itertuples(), responses(small, table, made), strict=True):
        assert small.check(row, answer).correct
        steps = answer.split("\n")[:-1]
        assert steps == sorted(steps) == small.solver.complete(row, [])


@pytest.mark.parametrize("seed", [0, 1])
def test_every_wrong_step_is_wrong_by_brute_force(small, table, seed):
    made = small.backtracking_traces(table, seed, HOW)
    kinds = []
    for row, answer, mask, kind in zip(
        table.itertuples(), responses(small, table, made), made["mask"], made["kind"], strict=True
    ):
        *before, wrong, end = answer.split("\n")
        assert end == BACKTRACK and mask.endswith("2" * len(BACKTRACK))
        assert before == FOUR.steps(row.givens, row.solution)[: len(before)]
        state = FOUR.after(row.givens, before)
        step = FOUR.parse_step(wrong)
        legal = state[step.cell] == "." and not FOUR.clashes(state, *step)
        after = state[: step.cell] + step.digit + state[step.cell + 1 :]
        assert legal == (kind == EXPLORATION) and not (legal and filled(after))
        assert small.solver.judge_steps(row, [*before, wrong]) == kind
        if legal:
            assert step.cell == state.index(".")
        learned = sum(map(len, before)) + len(before)
        assert mask.strip("02") == "1" * learned and len(mask.split("2")[0].rstrip("0")) in (
            0, len(FOUR.prompt(row.givens)) + learned)  # fmt: skip
        rewritten = state[step.cell] != "."
        assert not rewritten or state[step.cell] != step.digit
        kinds.append("rewritten" if rewritten else kind)
    assert {"rewritten", EXPLORATION, RULE} == {*kinds}
    again = small.backtracking_traces(table, seed, HOW)
    pd.testing.assert_frame_equal(made, again)


def test_parts_of_the_kinds_and_their_places(middle):
    table = pd.concat([middle] * 10, ignore_index=True)
    made = traces.backtracking_traces(table, SIX, 0, "honest", (1.0, 1e-9, 1e-9))
    # Where no step has a legal digit that is wrong, none can be explored.
    arrays = [problems.arrays(table[name], SIX) for name in ("givens", "solution")]
    forced = (np.bitwise_count(traces.legal_along(SIX, *arrays)) <= 1).all(1)
    assert ((made["kind"] == RULE) == forced).all() and 0 < forced.mean() < 0.1
    prefix = [text.split("###Response:\n")[1].count("\n") for text in made["text"]]
    assert min(prefix) == 1 and max(prefix) > 12
    for loss, kinds in (("loud", (1, 1, 1)), ("paper", (1, 1))):
        with pytest.raises(UserError, match=r"^traces\."):
            traces.backtracking_traces(table, SIX, 0, loss, kinds)


def test_random_play_is_legal_and_ends_where_it_must():
    task = make_task(MIDDLE)
    table = task.make_problems({"train": 200}, 7)
    made = task.play_traces(table, 7)
    assert len(made) == 200 and set(made["kind"]) == {"play"}
    reached, numbers = 0, set()
    for text, mask in zip(made["text"], made["mask"], strict=True):
        question, answer = text.split("###Response:\n")
        start = SIX.after("." * 36, question.split("\n")[1:-1])
        numbers.add(36 - start.count("."))
        *steps, last = answer.split("\n")
        grid = SIX.after(start, steps)
        assert steps == sorted(steps) and mask.count("0") == len(text) - len(answer)
        if last:
            assert last == GOAL and "." not in grid
            reached += 1
        else:  # the next cell has no legal digit
            cell = grid.index(".")
            assert all(SIX.clashes(grid, cell, digit) for digit in SIX.digits)
    assert 20 < reached < 180 and 16 not in numbers and max(numbers) > 30


def test_steps_and_problems_are_counted(small, table):
    kinds = small.step_kinds(table)
    assert list(kinds) == ["new", "seen", "train", "validation"]
    steps = table.givens.str.count(r"\.").groupby(table.split).sum()
    assert kinds.sum().to_dict() == steps.to_dict()
    one = pd.DataFrame({"givens": [PROBLEM], "solution": [SOLUTION], "split": "seen"})
    legal = traces.legal_along(FOUR, *(problems.arrays(one[name], FOUR)
                                       for name in ("givens", "solution")))  # fmt: skip
    expected = [
        sum(not FOUR.clashes(state, cell, digit) for digit in "1234")
        for cell in range(16)
        if PROBLEM[cell] == "." and (state := SOLUTION[:cell] + PROBLEM[cell:])
    ]
    assert np.bitwise_count(legal)[legal > 0].tolist() == expected
    assert small.summary(table).loc["new"].to_dict() == {
        "problems": 20, "fewest_givens": 7, "most_givens": 7
    }  # fmt: skip
    assert "(5, 6 or 8); **new** ones have 7," in small.terms


# The explorer's form ------------------------------------------------------------------------------


def test_a_grid_is_read_however_it_is_typed(small):
    form = small.form
    for text in (
        "12..\n.4.2\n.14.\n..2.",
        " 1 2 | . .\n . 4 | . 2\n ----+----\n . 1 | 4 .\n . . | 2 .\n",
        "1200\n0402\n0140\n0020",
        PROBLEM,
    ):
        assert form.parse({"grid": text}) == PROBLEM
    assert form.parse(form.texts(PROBLEM)) == PROBLEM
    assert form.title(PROBLEM) == "12.. / .4.2 / .14. / ..2."
    assert form.parse_step(" R1c3 = 3 ") == "r1c3=3" and form.parse_step("r1c5=1") is None
    assert form.state(PROBLEM, ["r1c3=3"]) == "123.\n.4.2\n.14.\n..2."
    assert form.state(PROBLEM, ["r1c3=2"]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 rows given; type 4"),
        ("12..\n.4.2\n..4.", "3 rows given; type 4"),
        ("12..\n.4.2\n..4.\n..2", "row 4 has 3 cells; type 4"),
        ("12..\n.4.x\n..4.\n..2.", "'x' in row 2; type digits from 1 to 4"),
        ("12..\n.4.5\n..4.\n..2.", "'5' in row 2"),
        ("12.1\n....\n....\n....", "1 stands twice in row 1"),
        ("1...\n.1..\n....\n....", "1 stands twice in box 1"),
    ],
)
def test_a_grid_that_is_none_is_named(small, text, message):
    with pytest.raises(UserError, match=f"^Grid: {message}"):
        small.form.parse({"grid": text})


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (RIGHT, ""),
        ("", "stops in the middle"),
        (BACKTRACK, "ends in <backtrack>"),
        ("r1c3=3\n" + GOAL, "stops with 8 cells empty"),
        ("r1c3=2\n", "r1c3=2: 2 is in row 1 already"),
        ("r1c3=4\n", "r1c3=4: 4 is in column 3 already"),
        ("r1c3=3\nr2c3=3\n", "r2c3=3: 3 is in column 3 already"),
        ("r1c1=3\n", "r1c1=3: r1c1 is given"),
        ("r1c3=3\nr1c3=4\n", "r1c3=4: r1c3 is filled already"),
        ("oh\n", "step 1 is no step: oh"),
        ("r1c3=3\nwhat is this all about", "the last line is no step: what is this al…"),
    ],
)
def test_the_form_says_why(small, response, reason):
    assert small.form.reason(PROBLEM, response) == reason


def test_what_lies_outside_training(small):
    assert small.form.outside(PROBLEM) == ""
    told = small.form.outside("1" + "." * 15)
    assert told.startswith("1 digits given (trained on 5 to 8); more than one solution")
    problem = small.form.random_problem(random.Random(0))
    assert small.form.outside(problem) == "" and len(solutions(FOUR, problem)) == 1
