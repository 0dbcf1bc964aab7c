"""What the processor can do decides the fast path; it is read, never assumed."""

import pytest

from lib.base import hardware


@pytest.mark.parametrize(
    ("flags", "fast"),
    [({"avx2"}, False), ({"avx2", "avx512_bf16"}, True), ({"amx_bf16"}, True), (set(), False)],
)
def test_bfloat16_on_a_cpu_needs_its_units(monkeypatch, flags, fast):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset(flags))
    assert hardware.has_bfloat16("cpu") is fast


def test_compiling_for_a_cpu_needs_a_compiler(monkeypatch):
    monkeypatch.setattr(hardware, "device", lambda: "cpu")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not hardware.can_compile()


def test_the_manifest_s_facts_are_all_there():
    facts = hardware.describe()
    assert set(facts) == {"processor", "cores", "memory_gb", "instructions", "device"}
    assert facts["cores"] >= 1 and facts["memory_gb"] > 0
    assert set(hardware.versions()) >= {"python", "torch", "transformers"}
