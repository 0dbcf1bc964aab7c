"""Which families of causal language models can be searched: tiny random ones of each, and the table
in docs/models.md that this makes (where it is not the page's, the test prints it)."""

import re
from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.experiment.artifacts import Run
from lib.experiment.experiment import Experiment
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.load import with_model
from lib.search import compatibility
from lib.search.compatibility import demand_searchable, trouble
from studies.catalogue import load_profile

TASK = load_profile("pretrained").load_task()
TOKENIZER = StepTokenizer(build_tokenizer(TASK.pieces), TASK.step_end)
#: Large random weights: distributions far from uniform, so that a wrong cache is seen.
COMMON = {
    "initializer_range": 0.4,
    "init_std": 0.4,
    "vocab_size": len(TOKENIZER.base),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": TOKENIZER.base.eos_token_id,
    "pad_token_id": TOKENIZER.base.pad_token_id,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4}
EXPERTS |= {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
LATENT |= {"v_head_dim": 8, "num_key_value_heads": 4, "n_group": 1, "topk_group": 1}
LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8}
LINEAR |= {"linear_value_head_dim": 8, "shared_expert_intermediate_size": 32}
LINEAR |= {"layer_types": ["linear_attention", "full_attention"] * 2}
PLAIN = """
apertus arcee biogpt bitnet bloom cohere cohere2 ernie4_5 exaone4 gemma gemma2 gemma3_text glm glm4
gpt2 gpt_bigcode gpt_neox granite helium llama mistral mpt nanochat nemotron olmo olmo2 olmo3 opt
persimmon phi phi3 qwen2 qwen3 seed_oss smollm3 stablelm starcoder2 xglm bert openai-gpt roberta
rwkv mamba falcon_mamba recurrent_gemma xlstm
"""
FAMILIES: dict[str, dict] = {name: {} for name in PLAIN.split()}
FAMILIES |= {name: EXPERTS for name in ("gpt_oss", "granitemoe", "mixtral", "olmoe")}
FAMILIES |= {name: EXPERTS for name in ("qwen2_moe", "qwen3_moe", "minimax")}
FAMILIES |= {
    "codegen": {"rotary_dim": 4},
    "deepseek_v3": EXPERTS | LATENT,
    "falcon": {"head_dim": None},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "gptj": {"rotary_dim": 4},
    "jamba": EXPERTS | {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "state_size": 8, "n_groups": 1},
    "qwen3_next": EXPERTS | LINEAR,
    "xlnet": {"max_position_embeddings": None, "d_head": 8},
}
FINE = "can be trained and searched"


def tiny(name: str) -> torch.nn.Module:
    """A random model of a family; a setting of None is one that the family does not take."""
    settings = {key: value for key, value in (COMMON | FAMILIES[name]).items()
                if value is not None or key == "bos_token_id"}  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **settings)).eval()


def table() -> str:
    """Families by what a trial finds, as the page shows them."""
    found = defaultdict(list)
    for name in sorted(FAMILIES):
        outcome = trouble(tiny(name), TOKENIZER) or FINE
        found[re.sub(r" by [0-9.]+ nats|: .*", "", outcome)].append(name)
    lines = ["| families | |", "|---|---|"]
    for outcome in sorted(found, key=lambda outcome: (outcome != FINE, outcome)):
        lines.append(f"| {', '.join(found[outcome])} | {outcome} |")
    return "\n".join(lines)


def test_the_page_s_table_is_what_a_trial_finds():
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    found = table()
    assert found in page, f"docs/models.md should hold\n{found}"


def test_a_model_that_cannot_be_searched_is_one_line():
    for name in ("rwkv", "mamba", "lfm2", "bert"):
        with pytest.raises(UserError) as error:
            demand_searchable(tiny(name), TOKENIZER, "some/name")
        assert str(error.value).startswith(f"some/name: models of the family {name} cannot be")
        assert "docs/models.md" in str(error.value) and "\n" not in str(error.value)


def test_a_cache_that_is_wrong_is_noticed(monkeypatch):
    real = compatibility._error
    monkeypatch.setattr(compatibility, "_error", lambda *given: real(*given) + 0.5)
    assert "off by 0.5 nats" in trouble(tiny("llama"), TOKENIZER)


def pretrained(name: str, folder) -> Experiment:
    """The experiment of a tiny model of a family in a folder, as MODEL=folder makes it."""
    TOKENIZER.base.save_pretrained(folder / "model")
    tiny(name).save_pretrained(folder / "model")
    profile = with_model(load_profile("pretrained"), str(folder / "model"))
    small = replace(profile.models["S"], branch_examples=16, test_problems=2)
    data = replace(profile.data, train_problems=60, validation_problems=4, test_problems=4)
    profile = replace(profile, data=data, models={"S": small})
    return Experiment(profile, "pretrained", 0, Run(folder / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma2", "bloom", "gpt_neo", "mpt"])
def test_families_without_sdpa_are_trained_and_searched(name, tmp_path):
    experiment = pretrained(name, tmp_path)
    made = experiment.checkpoint("S", "backtracking")
    found = experiment.search(made, experiment.problems("seen", 0, 2), experiment.spec(2, 1))
    assert all(tree.tokens_generated for tree in experiment.read_trees(found))


def test_nothing_is_trained_where_the_model_cannot_be_searched(tmp_path):
    experiment = pretrained("mamba", tmp_path)
    with pytest.raises(UserError, match="of the family mamba cannot be searched"):
        experiment.checkpoint("S", "sft")
    assert not list(tmp_path.glob("run/models/*/checkpoints"))
