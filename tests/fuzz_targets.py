"""What the fuzz tests feed, and what must hold: `UserError` or an answer, and the right one.

A target makes an input from a source of choices and checks what the code does with it against
tests/oracles.py. Hypothesis is the source in tests/test_fuzz.py; for `make fuzz` it is a random
generator, or the bytes of a coverage-guided fuzzer.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import oracles
import pandas as pd
from scripted_engine import LINES, ScriptedSampler

from lib.base.errors import UserError
from lib.base.files import read_json, read_parquet
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.load import PROFILES, Profile
from lib.profiles.search_spec import SearchSpec
from lib.search.search import search
from lib.search.tree import read_trees
from lib.tasks.countdown import problems
from lib.tasks.countdown.public_rows import COLUMNS, read_public, read_rows
from lib.tasks.countdown.rules import Problem, check, check_published, parse_step, remaining
from lib.tasks.countdown.task import CountdownTask
from lib.tasks.task import BACKTRACK
from studies.catalogue import load_profile

T = TypeVar("T")


class Source(Protocol):
    """Where an input's choices come from."""

    def pick(self, options: Sequence[T]) -> T: ...

    def text(self) -> str: ...

    def data(self) -> bytes: ...


GOAL = oracles.GOAL
SMALL = [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 24, 25]
ODD_NUMBERS = ["", "00", "01", "-1", "+1", " 1", "1 ", "٣", "²", "五", "１", "1_0", "1e1", "0x1"]
ODD_NUMBERS += ["1.5", "1\0", "9" * 18, "1" + "0" * 18, "9" * 4_301, "__import__('os')", "\u200b1"]
ODD_SIGNS = ["", "//", "**", "×", "÷", "−", "%", "^", " + ", "=", "\0"]
ODD_LINES = ["", " ", "\r", "\0", GOAL, GOAL + " ", GOAL.lower(), BACKTRACK, "\u2028"]
ODD_LINES += ["<BACKTRACK>", "###Question: numbers [1, 2]->target 3", "###Response:"]
ODD_LINES += ["__import__('os').system('x')"]
ODD_LINES += ["9" * 100_000 + "+1=1" + "0" * 100_000, "1+" * 1_000, "\x85", "\x0b\x0c", "1+1=2\r"]
TASK = CountdownTask(problems.Settings(4, 25, 10, 75, 99, 0.1))
TOKENIZER = build_tokenizer(TASK.pieces)
STEPS = StepTokenizer(TOKENIZER, TASK.step_end)
VOCABULARY = {*TASK.pieces, BACKTRACK, "<pad>", "<eos>", "<unk>"}
SMOKE = (PROFILES / "smoke.toml").read_text(encoding="utf-8").splitlines()


def one_line(error: UserError) -> None:
    assert "\n" not in str(error) and len(str(error)) < 2_500, str(error)[:200]


def rare(source: Source, often: int = 8) -> bool:
    return source.pick(range(often)) == 0


# Countdown ---------------------------------------------------------------------------------------


def make_line(source: Source, left: list[int]) -> str:
    """A step of these numbers, at times not a legal one, at times no step at all."""
    if rare(source):
        return source.pick([*ODD_LINES, source.text()])
    numbers = left if left and not rare(source) else SMALL
    a, sign, b = source.pick(numbers), source.pick("+-*/"), source.pick(numbers)
    value = oracles.value_of(a, sign, b)
    result = source.pick(SMALL) if value is None or rare(source) else value.__floor__()
    parts = [str(a), sign, str(b), "=", str(result)]
    if rare(source):
        place = source.pick(range(5))
        parts[place] = source.pick(ODD_SIGNS if place in (1, 3) else ODD_NUMBERS)
    return "".join(parts)


def make_path(source: Source, numbers: Sequence[int]) -> str:
    left, lines = list(numbers), []
    for _ in range(source.pick(range(len(numbers) + 2))):
        lines.append(make_line(source, left))
        left = oracles.left_after(tuple(left), lines[-1:]) or left
    ends = [GOAL, GOAL, "", BACKTRACK, BACKTRACK, GOAL + "\n", *ODD_LINES[:10]]
    return "\n".join([*lines, source.pick(ends)])


def make_numbers(source: Source) -> tuple[int, ...]:
    return tuple(source.pick(SMALL) for _ in range(source.pick([1, 2, 2, 3, 3, 4])))


def make_target(source: Source, numbers: Sequence[int]) -> int:
    """Mostly one that the numbers reach."""
    reached = sorted(oracles.every_result(tuple(sorted(numbers))))
    return source.pick(SMALL if rare(source) else reached[:200])


def step(source: Source) -> None:
    """parse_step"""
    line = make_line(source, [])
    found = parse_step(line)
    assert (None if found is None else tuple(found)) == oracles.read_step(line), line[:200]


def response(source: Source) -> None:
    """The strict checker, and the published one."""
    numbers = make_numbers(source)
    problem = Problem(numbers, make_target(source, numbers))
    path = make_path(source, numbers)
    verdict = check(problem, path)
    found = (verdict.correct, verdict.error, verdict.step)
    assert found == oracles.strict(numbers, problem.target, path), (problem, path[:500])
    published = check_published(problem, path)
    assert (published.error is None) == published.correct
    expected = oracles.published(numbers, problem.target, path)
    assert published.correct == expected, (problem, path[:500])
    lines = path.split("\n")[:-1]
    left, expected = remaining(numbers, lines), oracles.left_after(numbers, lines)
    assert (None if left is None else list(left)) == expected, (problem, path[:500])


def row(source: Source) -> None:
    """A row of the public data set."""
    numbers, loss = make_numbers(source), source.pick(["honest", "paper"])
    target = make_target(source, numbers)
    path = make_path(source, numbers)
    if rare(source, 4):
        path = Problem(numbers, target).prompt() + path
    path += source.pick(["", "", "\n", " \t\n"])
    values: list[Any] = [list(numbers), target, path]
    well_formed = len(numbers) > 1
    if rare(source):
        place = source.pick([0, 1, 2])
        odd = [None, "12", True, -1, 2.5, float("nan"), float("inf"), 10**30, b"1", [[1]], {}, []]
        values[place] = source.pick(odd)
        if place == 0 and isinstance(values[0], int | float):
            values[0] = [1, values[0], 2]
        well_formed = False
    columns = zip(COLUMNS, values, strict=True)
    frame = pd.DataFrame({name: pd.Series([value], dtype=object) for name, value in columns})
    traces, left_out = read_rows(frame, loss)
    assert len(traces) + len(left_out) == 1
    kind = oracles.public_row(numbers, target, path) if well_formed else None
    assert (traces.kind.tolist() or [None]) == [kind], values
    if kind is not None:
        text, mask = traces.text[0], traces["mask"][0]
        prompt = text.index("###Response:\n") + len("###Response:\n")
        assert len(text) == len(mask) and set(mask[:prompt]) == {"0"}
        end = GOAL if kind == "optimal" else BACKTRACK
        assert text.endswith(end) and mask.endswith("2" * len(end)) and mask.count("2") == len(end)


# Tokens ------------------------------------------------------------------------------------------


def tokens(source: Source) -> None:
    """The tokenizer, there and back, and a trace's loss codes."""
    numbers = make_numbers(source)
    parts = [Problem(numbers, 7).prompt(), make_path(source, numbers)]
    known = [*sorted(VOCABULARY), *ODD_NUMBERS]
    parts += [source.pick(known) for _ in range(source.pick(range(4)))]
    text = "".join(part for part in parts if not rare(source)) or source.text()
    if any("\ud800" <= character <= "\udfff" for character in text):
        return  # no text: nothing that is read from a file has half a pair
    (ids,) = STEPS.encode_prompts([text])
    expected = oracles.tokens_of(text, VOCABULARY, "<unk>")
    assert TOKENIZER.convert_ids_to_tokens(ids) == expected, text[:500]
    if "<unk>" not in expected:
        assert TOKENIZER.decode(ids) == text
    mask = "".join(source.pick(["0", "1", "2"]) for _ in range(min(len(text), 20)))
    mask = (mask * (len(text) // 20 + 1))[: len(text)] + source.pick(["", "", "", "0"])
    trace = pd.DataFrame({"text": [text], "mask": [mask]})
    try:
        encoded = STEPS.encode_traces(trace, max_tokens=source.pick([None, None, 30]))
    except UserError as error:
        one_line(error)
        assert len(mask) != len(text) or len(ids) > 29 or not text
        return
    codes, at = encoded.codes.tolist(), 0
    for token, code in zip(expected, codes[: len(expected)], strict=True):
        width = 1 if token == "<unk>" and not text.startswith(token, at) else len(token)
        assert code == int(min(mask[at : at + width]))
        at += width
    assert at == len(text)


# Files -------------------------------------------------------------------------------------------

VALUES = ["0", "1", "-1", "2.5", "nan", "-inf", "1e400", '""', '"x"', "'lib.nosuch'", "true", "[]"]
VALUES += ["[1, 'a']", "{}", "{a = 1}", "1979-05-27", "9" * 400, "0x" + "f" * 5_000, "[" * 2_000]
VALUES += ['"../../etc/passwd"', '"\\u0000"', '"\\n"', "[0]", "[[1]]", "07:32:00", '"""', "\0"]
VALUES += [
    '"os"',
    '"lib"',
    '"lib.tasks.countdown"',
    '"subprocess"',
    '"__import__"',
    '"lib.tasks.countdown.problems.x"',
]


def profile(source: Source, folder: Path) -> None:
    """A profile's file: smoke's, with lines changed, lost, repeated or new."""
    lines = list(SMOKE)
    for _ in range(source.pick([1, 1, 1, 2, 3])):
        at = source.pick(range(len(lines)))
        change = source.pick(["value", "value", "value", "drop", "repeat", "key", "text", "swap"])
        key = lines[at].partition("=")[0]
        if change == "value":
            lines[at] = f"{key}= {source.pick(VALUES)}"
        elif change == "drop":
            del lines[at]
        elif change == "repeat":
            lines.insert(source.pick(range(len(lines))), lines[at])
        elif change == "key":
            lines[at] = f"{source.pick(['x', '__class__', 'a.b', key.strip() + '.a'])} = 1"
        elif change == "text":
            lines[at] = source.text()
        else:
            other = source.pick(range(len(lines)))
            lines[at], lines[other] = lines[other], lines[at]
    file = folder / "mine.toml"
    text = "\n".join(lines)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        loaded = load_profile(str(file))
    except UserError as error:
        one_line(error)
        return
    assert (
        isinstance(loaded, Profile)
        and tomllib.loads(text)["task"]["module"] == "lib.tasks.countdown"
    )


def mutated(source: Source, whole: bytes) -> bytes:
    """Bytes with some changed, cut out, repeated or put in."""
    found = bytearray(whole)
    for _ in range(source.pick([1, 1, 2, 4])):
        at, size = source.pick(range(len(found) + 1)), source.pick([1, 1, 2, 4, 8, 64])
        change = source.pick(["set", "set", "cut", "repeat", "put", "end"])
        if change == "set":
            found[at : at + 1] = bytes([source.pick(range(256))])
        elif change == "cut":
            del found[at : at + size]
        elif change == "repeat":
            found[at:at] = found[at : at + size]
        elif change == "put":
            found[at:at] = source.data()
        else:
            del found[at:]
        if not found:
            break
    return bytes(found)


def json_file(source: Source, folder: Path) -> None:
    """A JSON file of our own, damaged."""
    made = {"name": "models/S", "inputs": {"seed": 1, "é": [1.5, None, True]}, "duration_s": 12.5}
    odd = [b"[" * 90_000, b"9" * 5_000, b'{"a":' * 50_000, b"\xff", b"NaN", b"1e999", b'"\\ud800"']
    data = source.pick([*odd, mutated(source, json.dumps(made).encode()), source.data()])
    file = folder / "made.json"
    file.write_bytes(data)
    try:
        found = read_json(file)
    except UserError as error:
        one_line(error)
        return
    assert repr(found) == repr(json.loads(data.decode()))


def _parquet(folder: Path) -> bytes:
    frame = pd.DataFrame({"numbers": [[2, 39], [45]], "target": [1, 2], "text": ["a\n", "é"]})
    frame.to_parquet(folder / "whole.parquet", index=False)
    return (folder / "whole.parquet").read_bytes()


def parquet(source: Source, folder: Path) -> None:
    """A table of our own, damaged."""
    whole = folder / "whole.parquet"
    data = whole.read_bytes() if whole.exists() else _parquet(folder)
    file = folder / "table.parquet"
    file.write_bytes(mutated(source, data))
    try:
        assert isinstance(read_parquet(file), pd.DataFrame)
    except UserError as error:
        one_line(error)


def _tree() -> str:
    prompts = ["###Question: numbers [2, 3, 4]->target 24\n###Response:\n"]
    return search(ScriptedSampler(), LINES, prompts, SearchSpec(4, 1, seed=1))[0].to_json()


TREE = _tree()


def tree(source: Source, folder: Path) -> None:
    """A file of search trees, damaged: what is read can be walked."""
    record = json.loads(TREE)
    lines = [TREE.encode(), b'{"search":{}}'][:: source.pick([1, -1])]
    if rare(source, 3):
        lines[0] = mutated(source, lines[0])
    else:
        odd = [None, -1, 0, 1, 7, "x", "\ud800", [], {}, 1.5, True, "goal", [1], 10**30]
        place = source.pick([record, record["nodes"]])
        key = source.pick(sorted(place))
        if isinstance(place[key], list) and place[key] and not rare(source):
            place[key][source.pick(range(len(place[key])))] = source.pick(odd)
        else:
            place[key] = source.pick(odd)
        lines.append(json.dumps(record).encode())
    file = folder / "trees.jsonl"
    file.write_bytes(b"\n".join(lines))
    try:
        for found in read_trees(file):
            for leaf in found.leaves():
                assert len(found.path(leaf.id)) <= len(found.nodes)
                assert found.response(leaf.id).startswith("") and found.to_json()
    except UserError as error:
        one_line(error)


def public_file(source: Source, folder: Path) -> None:
    """A folder of the public data set's files: every row right, or left out, or all refused."""
    whole = [{"nums": [3, 4], "target": 7, "search_path": f"3+4=7\n{GOAL}"}] * 200
    rows = json.loads(json.dumps(whole))
    changed = source.pick(range(200))
    odd = [None, "7", 7.5, [], {}, -1, 10**30, "\0", "\ud800", True, [None, 4], [[3], [4]]]
    odd += [float("nan"), "__import__('os')", "x" * 10**6]
    key = source.pick(["nums", "target", "search_path", "new"])
    rows[changed][key] = source.pick(odd)
    kind = source.pick(["jsonl", "json"])
    text = json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows))
    damaged = rare(source, 4)
    data = mutated(source, text.encode()) if damaged else text.encode()
    for old in folder.glob("*"):
        old.unlink()
    (folder / f"train.{kind}").write_bytes(data)
    try:
        traces, left_out = read_public(folder, "honest")
    except UserError as error:
        one_line(error)
        return
    assert len(left_out) <= 2 and (damaged or len(traces) >= 199)
    for text, mask in zip(traces.text, traces["mask"], strict=True):
        assert len(text) == len(mask)
        head, path = text.split("###Response:\n")
        given, target = re.fullmatch(r"###Question: numbers \[(.*)\]->target (.*)\n", head).groups()
        numbers = tuple(map(int, given.split(", ")))
        assert damaged or (numbers, target, path) == ((3, 4), "7", f"3+4=7\n{GOAL}")
        assert oracles.public_row(numbers, int(target), path) is not None


TEXT_TARGETS: dict[str, Callable[[Source], None]] = {
    "step": step, "response": response, "row": row, "tokens": tokens,
}  # fmt: skip
FILE_TARGETS: dict[str, Callable[[Source, Path], None]] = {
    "profile": profile, "json": json_file, "parquet": parquet, "tree": tree, "public": public_file,
}  # fmt: skip


class RandomSource:
    """Choices at random."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.generator.integers(len(options)))]

    def text(self) -> str:
        size = int(self.generator.integers(1, 12))
        codes = self.generator.choice([0x80, 0x800, 0xD7FF, 0x10FFFF], size)
        return "".join(chr(int(self.generator.integers(0, high))) for high in codes)

    def data(self) -> bytes:
        return self.generator.bytes(int(self.generator.integers(0, 40)))
