"""What the processor can do decides the fast path; it is read, never assumed."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lib.base import hardware
from lib.base.errors import UserError
from lib.base.files import ROOT


@pytest.mark.parametrize(
    ("flags", "fast"),
    [({"avx2"}, False), ({"avx2", "avx512_bf16"}, True), ({"amx_bf16"}, True), (set(), False)],
)
def test_bfloat16_on_a_cpu_needs_its_units(monkeypatch, flags, fast):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset(flags))
    assert hardware.has_bfloat16("cpu") is fast


def test_compiling_for_a_cpu_needs_a_compiler(monkeypatch, capsys):
    monkeypatch.setattr(hardware, "device", lambda: "cpu")
    monkeypatch.setenv("CXX", "no-such-compiler --fast")
    assert not hardware.can_compile.__wrapped__()
    line = "training runs uncompiled, which is slower: there is no compiler no-such-compiler\n"
    assert capsys.readouterr().err == line


def compiled_in(folder, cache) -> tuple[str, str]:
    """What a process says whose packages lie in `folder`, and compiled code in `cache`."""
    (folder / "packages").symlink_to(Path(torch.__file__).parents[1])
    code = "from lib.base import hardware as h; print(h.can_compile(), h.can_compile())"
    variables = {"PYTHONPATH": f"{ROOT}:{folder / 'packages'}", "TORCHINDUCTOR_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.slow
def test_compiled_code_that_a_killed_process_left_unfinished_goes(tmp_path):
    library = tmp_path / "a cache" / "x.main.so"
    library.parent.mkdir()
    library.write_bytes(b"\x7fELF")
    spec = importlib.util.spec_from_file_location("x.main", library)
    told = pytest.raises(UserError, match=r"x\.main\.so: compiled .* the same command goes on")
    with told, hardware.whole_compiled_code():
        try:
            importlib.util.module_from_spec(spec)
        except ImportError as error:  # as torch tells it
            raise RuntimeError(f"ImportError: {error}") from error
    assert not library.exists()
    with pytest.raises(ValueError, match="another"), hardware.whole_compiled_code():
        raise ValueError("another")


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
def test_packages_in_a_folder_of_any_name_are_compiled_with(tmp_path):
    folder = tmp_path / "my répro (1) 'x'"
    folder.mkdir()
    assert compiled_in(folder, str(tmp_path / "cache")) == ("True True", "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
def test_where_compiling_fails_one_line_says_so(tmp_path):
    out, error = compiled_in(tmp_path, str(tmp_path / "a cache"))
    assert out == "False False" and error.count("\n") == 1
    assert error.startswith("training runs uncompiled, which is slower: ")


def test_the_manifest_s_facts_are_all_there():
    facts = hardware.describe()
    assert set(facts) == {"processor", "cores", "memory_gb", "instructions", "device"}
    assert facts["cores"] >= 1 and facts["memory_gb"] > 0
    assert set(hardware.versions()) >= {"python", "torch", "transformers"}
