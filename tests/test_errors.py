"""What a user reads when something was wrong: one line, safe on a terminal, not too long."""

import json
import subprocess
import sys

import pytest

from lib.base.errors import MOST_SHOWN, UserError, exit_status


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("data.test_problems = 0: é, ₂, – stay", "data.test_problems = 0: é, ₂, – stay"),
        ("two\nlines\r", r"two\nlines\r"),
        ("a\0b", r"a\x00b"),
        ("\x1b[31mred\x9b", r"\x1b[31mred\x9b"),
        ("\u202egnp.exe \u2028", r"\u202egnp.exe \u2028"),
        ("half a pair \ud800", r"half a pair \ud800"),
    ],
)
def test_what_cannot_be_printed_is_escaped(given, shown):
    assert str(UserError(given)) == shown


def test_a_very_long_text_is_cut_in_its_middle():
    text = str(UserError("file: " + "x" * 10**6 + ": end"))
    assert len(text) < MOST_SHOWN + 10 and text.startswith("file: x") and text.endswith("x: end")
    assert " … " in text


def test_further_lines_are_asked_for():
    assert str(UserError("a:", "b\n", "c")) == "a:\n  b\\n\n  c"
    assert str(UserError()) == "" and str(UserError(ValueError("x"))) == "x"


def test_a_command_ends_on_one_line(capsys):
    def work():
        raise UserError("PROFILE=\x1b[2J\nrm: no such profile")

    assert exit_status(work) == 1
    assert capsys.readouterr().err == "error: PROFILE=\\x1b[2J\\nrm: no such profile\n"


def test_half_a_character_reaches_any_terminal():
    """Where standard error takes ASCII alone, too."""
    code = "from lib.base.errors import *\ndef w(): raise UserError(chr(0xd800) + 'é')\n"
    code += "raise SystemExit(exit_status(w))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
    )
    assert done.returncode == 1 and done.stderr.startswith("error: \\ud800")
    assert json.dumps(done.stderr)
