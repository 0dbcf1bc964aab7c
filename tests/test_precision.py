"""Products in bfloat16: what is changed, by how much, and that searches and profiles take it."""

from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

from lib.base import hardware
from lib.base.errors import UserError
from lib.experiment.artifacts import Run
from lib.experiment.experiment import Experiment
from lib.models.llama import BFloat16Linear, build_model, with_fast_products
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.load import PROFILES
from lib.profiles.search_spec import CHUNK_SIZE, SearchSpec
from lib.search import decoding, parallel
from lib.search.parallel import search_in_processes
from lib.search.sampler import MAX_ROWS, SamplerSource, make_sampler, rows_of_chunk
from lib.search.search_file import search_to_file
from studies.catalogue import load_profile

PROFILE = load_profile("smoke")
TASK = PROFILE.load_task()
TOKENIZER = build_tokenizer(TASK.pieces)
STEPS = StepTokenizer(TOKENIZER, TASK.step_end)
PROMPTS = STEPS.encode_prompts(TASK.prompts(TASK.make_problems({"seen": 6}, 0)))


@pytest.fixture
def units(monkeypatch):
    """As on a processor with bfloat16 units: torch computes it anywhere, if slowly."""
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: True)


def fast(seed=0):
    return with_fast_products(build_model(TOKENIZER, 32, 2, 2, seed).eval(), "auto")


def test_a_linear_layer_multiplies_rounded_numbers_and_keeps_the_dtype():
    linear = nn.Linear(3, 2)
    layer, given = BFloat16Linear(linear), torch.randn(4, 3)
    expected = given.bfloat16() @ linear.weight.bfloat16().T + linear.bias.bfloat16()
    assert layer(given).dtype == torch.float32
    torch.testing.assert_close(layer(given), expected.float(), atol=0.02, rtol=0.01)
    assert (layer.in_features, layer.out_features) == (3, 2)


def test_only_linear_layers_change(units):
    model = fast()
    kinds = {name: type(part) for name, part in model.named_modules()}
    assert kinds["model.layers.1.mlp.up_proj"] is BFloat16Linear
    assert [name for name, kind in kinds.items() if kind is nn.Linear] == ["lm_head"]
    assert model.lm_head.weight is model.get_input_embeddings().weight  # tied as before


def test_large_logits_keep_their_digits(units):
    """A trained model's lie far from 0, where bfloat16 tells only eighths apart."""
    model = fast()
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad():
        model.lm_head.weight.mul_(40)
        hidden = model.model(ids).last_hidden_state.double()
        expected = hidden @ model.lm_head.weight.double().T
        logits = model(ids).logits
    assert expected.abs().max() > 20
    assert (logits - expected).abs().max() < 1e-3
    assert len(logits.unique()) > 0.9 * logits.numel()


@pytest.mark.parametrize("name", ["float32", "auto"])
def test_nothing_changes_in_float32_or_without_the_units(monkeypatch, name):
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: name == "float32")
    model = build_model(TOKENIZER, 16, 1, 1, 0)
    assert with_fast_products(model, name) is model
    assert type(model.lm_head) is nn.Linear


def test_the_samples_distribution_is_the_models_own_up_to_bfloat16(units):
    """Greedy samples, scored again by the float32 model from nothing."""
    plain, rounded = build_model(TOKENIZER, 32, 2, 2, 0).eval(), fast()
    sampler = make_sampler(rounded, STEPS, 10)
    for prefix, [sample] in zip(PROMPTS, sampler.sample(PROMPTS, [1] * 6, 0.0, 0), strict=True):
        ids = torch.tensor([[*prefix, *sample.tokens]])
        with torch.no_grad():
            logprobs = plain(ids).logits.log_softmax(-1)[0, len(prefix) - 1 : -1]
        expected = logprobs.gather(1, torch.tensor(sample.tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=0.03, rtol=0.02)


def test_what_is_cached_is_what_is_computed_anew(units):
    rounded = fast()
    sampler = make_sampler(rounded, STEPS, 8)
    for prefix, [sample] in zip(PROMPTS, sampler.sample(PROMPTS, [1] * 6, 0.0, 0), strict=True):
        with torch.no_grad():
            logits = rounded(torch.tensor([[*prefix, *sample.tokens]])).logits
        expected = logits.log_softmax(-1)[0, len(prefix) - 1 : -1]
        expected = expected.gather(1, torch.tensor(sample.tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=0.02, rtol=0.02)


def test_profiles_name_it(tmp_path):
    text = (PROFILES / "smoke.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("[search]", '[search]\nprecision = "auto"', 1))
    assert load_profile(str(path)).search.precision == "auto"
    path.write_text(text.replace("[search]", '[search]\nprecision = "half"', 1))
    with pytest.raises(UserError, match=r"search.precision.*float32 or auto"):
        load_profile(str(path))


def test_a_search_in_float32_keeps_its_key_and_one_in_bfloat16_has_its_own(tmp_path):
    keys = {}
    for name in ("float32", "auto"):
        search = replace(PROFILE.search, precision=name)
        experiment = Experiment(replace(PROFILE, search=search), "smoke", 0, Run(tmp_path))
        asked = []
        experiment.run.make = lambda name, inputs, make, asked=asked: asked.append(inputs)
        checkpoint = SimpleNamespace(key="a key", name="a model", path=tmp_path)
        problems = pd.DataFrame(columns=["numbers", "target"])
        experiment.search(checkpoint, problems, experiment.spec(8, 1, temperature=0.7))
        with suppress(AttributeError):  # nothing was made that could be read
            experiment.decode(checkpoint, problems)
        keys[name] = asked
    for usual, fast_one in zip(keys["float32"], keys["auto"], strict=True):
        assert fast_one == usual | {"precision": "auto"}
        assert "precision" not in usual  # runs of before it could be chosen are found again
    assert len(keys["auto"]) == 2


def test_a_search_in_usual_chunks_keeps_its_key_and_others_have_their_own(tmp_path):
    keys = {}
    for chunk in (CHUNK_SIZE, 3):
        search = replace(PROFILE.search, chunk=chunk)
        experiment = Experiment(replace(PROFILE, search=search), "smoke", 0, Run(tmp_path))
        experiment.run.make = lambda name, inputs, make, chunk=chunk: keys.update({chunk: inputs})
        checkpoint = SimpleNamespace(key="a key", name="a model", path=tmp_path)
        experiment.search(
            checkpoint,
            pd.DataFrame(columns=["numbers", "target"]),
            experiment.spec(8, 1, temperature=0.7),
        )
    assert "chunk" not in keys[CHUNK_SIZE] and keys[3] == keys[CHUNK_SIZE] | {"chunk": 3}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_search_s_chunks_are_the_profile_s(tmp_path, processes, monkeypatch):
    model = build_model(TOKENIZER, 16, 1, 1, 0)
    model.save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    search = replace(PROFILE.search, chunk=3, processes=processes)
    experiment = Experiment(replace(PROFILE, search=search), "smoke", 0, Run(tmp_path / "run"))
    asked = []
    monkeypatch.setattr(
        "lib.experiment.experiment.search_in_processes",
        lambda path, source, prompts, spec, *_, **how: asked.append(spec.chunk),
    )
    checkpoint = SimpleNamespace(key="a key", name="a model", path=tmp_path / "model")
    problems = TASK.make_problems({"seen": 4}, 0)
    made = experiment.search(checkpoint, problems, experiment.spec(2, 0, temperature=0.7))
    if processes == 1:
        assert '"chunk_size":3' in (made.path / "trees.jsonl").read_text().splitlines()[0]
        assert len(experiment.read_trees(made)) == 4
    assert asked == ([3] if processes == 2 else [])


def test_a_larger_chunk_is_computed_at_once():
    assert rows_of_chunk(CHUNK_SIZE) == MAX_ROWS == 2_048 and rows_of_chunk(256) == 8_192


def test_decoding_goes_through_it(units):
    prompts = TASK.prompts(TASK.make_problems({"seen": 3}, 0))
    for decoded in (
        decoding.greedy(fast(), STEPS, prompts, 6),
        decoding.beam_search(fast(), STEPS, prompts, 6, 2),
    ):
        assert all(one.tokens and -100 < one.logprob <= 0 for one in decoded)


def test_a_dealt_search_has_the_precision_too(units, tmp_path, monkeypatch):
    build_model(TOKENIZER, 32, 2, 2, 0).save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    prompts = TASK.prompts(TASK.make_problems({"seen": 5}, 0))
    spec = SearchSpec(breadth=4, depth=1, temperature=1.0, seed=0, chunk=2)
    monkeypatch.setattr(
        parallel, "_launch", lambda folder, processes, *_: [
            parallel.work(folder, rank, processes, "cpu") for rank in range(processes)
        ],
    )  # fmt: skip
    sampler = make_sampler(fast(), STEPS, 10)
    alone = search_to_file(tmp_path / "alone.jsonl", sampler, STEPS, prompts, spec)
    source = SamplerSource(str(tmp_path / "model"), TASK.step_end, 10, "auto")
    # Launched, so that the work is done in this process, which knows the units.
    dealt = search_in_processes(tmp_path / "dealt.jsonl", source, prompts, spec, 2, launched=True)
    assert dealt.read_bytes() == alone.read_bytes()
