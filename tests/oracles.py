"""Slow second opinions for tests: each rule once more, by other means, with nothing of lib/ in it.

Numbers are `Fraction`s, searches are exhaustive, texts are read character by character.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from itertools import permutations

GOAL, BACKTRACK = "Goal Reached!", "<backtrack>"
FORMAT, UNKNOWN = "invalid step format", "unknown number in step"
RESULT, MISSED = "incorrect result in step", "not reached target"


def read_number(text: str) -> int | None:
    """A number as the task writes it: ASCII digits, at most 18, no leading zero."""
    if not 1 <= len(text) <= 18 or any(character not in "0123456789" for character in text):
        return None
    if text[0] == "0" and len(text) > 1:
        return None
    value = 0
    for character in text:
        value = 10 * value + "0123456789".index(character)
    return value


def read_step(line: str) -> tuple[int, str, int, int] | None:
    """What a line states, read from left to right."""
    signs = [(at, c) for at, c in enumerate(line) if c in "+-*/"]
    equals = [at for at, c in enumerate(line) if c == "="]
    if len(signs) != 1 or len(equals) != 1 or equals[0] < signs[0][0]:
        return None
    (at, sign), end = signs[0], equals[0]
    a, b, c = (read_number(part) for part in (line[:at], line[at + 1 : end], line[end + 1 :]))
    return None if a is None or b is None or c is None else (a, sign, b, c)


def value_of(a: int, sign: str, b: int) -> Fraction | None:
    """The value of an operation, whatever it is."""
    first, second = Fraction(a), Fraction(b)
    if sign == "/":
        return first / second if second else None
    return {"+": first + second, "-": first - second, "*": first * second}[sign]


def strict(
    numbers: tuple[int, ...], target: int, response: str
) -> tuple[bool, str | None, int | None]:
    """The strict verdict: correct, error, step."""
    lines, left = response.split("\n"), sorted(numbers)
    for index in range(len(lines) - 1):
        step = read_step(lines[index])
        if step is None:
            return False, FORMAT, index
        a, sign, b, c = step
        for operand in (a, b):
            if operand not in left:
                return False, UNKNOWN, index
            left.pop(left.index(operand))
        if value_of(a, sign, b) != c:
            return False, RESULT, index
        left = sorted([*left, c])
    last = len(lines) - 1
    if lines[last] == GOAL:
        return (True, None, None) if left == [target] else (False, MISSED, last)
    return False, MISSED if lines[last] in ("", BACKTRACK) else FORMAT, last


def published(numbers: tuple[int, ...], target: int, response: str) -> bool:
    """Whether the published evaluator would count this response as right."""
    ends = sorted(at for at in (response.find(GOAL), response.find(BACKTRACK)) if at != -1)
    if not ends:
        return False
    text, left, value = response[: ends[0]], set(numbers), None
    while text and text[0].isspace():
        text = text[1:]
    while text and text[-1].isspace():
        text = text[:-1]
    for line in text.split("\n"):
        at, parts = 0, []
        for wanted in ("digits", "+-*/", "digits", "=", "digits"):
            while parts and at < len(line) and line[at].isspace():
                at += 1
            start = at
            if wanted != "digits":
                at += at < len(line) and line[at] in wanted
            while wanted == "digits" and at < len(line) and line[at].isdecimal():
                at += 1
            if at == start or at - start > 4300:
                return False
            parts.append(line[start:at])
        a, b, c = (int(parts[number]) for number in (0, 2, 4))
        value = value_of(a, parts[1], b)
        if a not in left or b not in left or value is None or value // 1 != c:
            return False
        left = (left - {a, b}) | {c}
    return value // 1 == target


@lru_cache(maxsize=20_000)
def every_result(numbers: tuple[int, ...]) -> frozenset[int]:
    """All whole numbers from 0 that `numbers` (sorted) combine into over such numbers."""
    if len(numbers) == 1:
        return frozenset(numbers)
    found: set[int] = set()
    for first, second, *rest in set(permutations(numbers)):
        for sign in "+-*/":
            value = value_of(first, sign, second)
            if value is not None and value >= 0 and value.denominator == 1:
                found |= every_result(tuple(sorted([int(value), *rest])))
    return frozenset(found)


def left_after(numbers: tuple[int, ...], lines: list[str]) -> list[int] | None:
    """The numbers left after these steps, or None where one is not legal."""
    left = list(numbers)
    for line in lines:
        step = read_step(line)
        if step is None:
            return None
        a, sign, b, c = step
        for operand in (a, b):
            if operand not in left:
                return None
            left.remove(operand)
        if value_of(a, sign, b) != c:
            return None
        left.append(c)
    return left


def public_row(numbers: tuple[int, ...], target: int, path: str) -> str | None:
    """The kind of a public data set's row with a well-formed problem; None where it is bad."""
    prompt = "###Question: numbers [" + ", ".join(str(n) for n in numbers)
    prompt += "]->target " + str(target) + "\n###Response:\n"
    text = path.rstrip()
    if text[:3] == "###":
        if text[: len(prompt)] != prompt:
            return None
        text = text[len(prompt) :]
    if text.endswith(GOAL):
        return "optimal" if strict(numbers, target, text)[0] else None
    if not text.endswith(BACKTRACK):
        return None
    text = text[: -len(BACKTRACK)]
    *before, last = (text[:-1] if text.endswith("\n") else text).split("\n")
    left, step = left_after(numbers, before), read_step(last)
    if left is None or step is None:
        return None
    a, sign, b, c = step
    if any([a, b].count(operand) > left.count(operand) for operand in (a, b)):
        return "rule_violation"
    if value_of(a, sign, b) != c:
        return "computation"
    rest = list(left)
    rest.remove(a)
    rest.remove(b)
    if target in every_result(tuple(sorted([*rest, c]))):
        return None  # no error in it
    return "exploration" if target in every_result(tuple(sorted(left))) else "near_miss"


def tokens_of(text: str, vocabulary: set[str], unknown: str) -> list[str]:
    """The longest token at each place; a character that no token begins with is unknown."""
    longest, at, found = max(map(len, vocabulary)), 0, []
    while at < len(text):
        sizes = range(min(longest, len(text) - at), 0, -1)
        token = next((text[at : at + n] for n in sizes if text[at : at + n] in vocabulary), None)
        found.append(unknown if token is None else token)
        at += 1 if token is None else len(token)
    return found
