"""vLLM's sampler: the pipes with a made-up vLLM, and, where `make env-vllm` was run, the real one
against transformers on a small random Llama."""

import itertools
import math
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import LlamaConfig, LlamaForCausalLM

from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.experiment.experiment import Experiment
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.search_spec import SearchSpec
from lib.profiles.settings import VllmSettings
from lib.search import vllm
from lib.search.sampler import make_sampler
from lib.search.search import search
from lib.search.variants import PublishedSampling
from lib.search.vllm import ENVIRONMENT, VllmSampler, shared_sampler
from studies.catalogue import load_profile

EOS, BACKTRACK = 1, 3

# The pipes, with a vLLM that is made up

MADE_UP = """
import math, os, random, sys
from types import SimpleNamespace as Made

__version__ = "0"
TokensPrompt = dict
sys.modules["vllm.platforms"] = Made(
    current_platform=Made(is_cpu=lambda: True, device_type="cpu")
)

class SamplingParams:
    def __init__(self, **settings):
        self.__dict__.update(settings)

class LLM:
    def __init__(self, model, **settings):
        print("noise that is no answer")
        if model.endswith("broken"):
            raise ValueError("no such model\\nand more")

    def generate(self, prompts, parameters, use_tqdm):
        return [Made(outputs=self.outputs(*each)) for each in zip(prompts, parameters)]

    def outputs(self, prompt, wanted):
        if 7 in prompt["prompt_token_ids"]:
            raise RuntimeError("refused")
        if 8 in prompt["prompt_token_ids"]:
            print("out of memory\\n", file=sys.stderr, flush=True)
            os._exit(3)
        found = []
        for index in range(wanted.n):
            stream = random.Random(wanted.seed + index)
            tokens = []
            while len(tokens) < wanted.max_tokens and not set(tokens) & set(wanted.stop_token_ids):
                tokens.append(stream.choice([1, 3, 4, 5]))
            flat = Made(
                start_indices=[2 * i for i in range(len(tokens))],
                logprobs=[value for t in tokens for value in (math.log(t / 13), math.log(3 / 13))],
            )
            found.append(Made(token_ids=tokens, logprobs=flat))
        return found
"""


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A folder with a model's configuration; the processes import a vLLM that is made up."""
    (tmp_path / "vllm.py").write_text(MADE_UP)
    LlamaConfig(max_position_embeddings=16).save_pretrained(tmp_path)
    before = vllm.environment

    def environment(*arguments):
        found = before(*arguments)
        return found | {"PYTHONPATH": found["PYTHONPATH"] + os.pathsep + str(tmp_path)}

    monkeypatch.setattr(vllm, "environment", environment)
    monkeypatch.setattr(vllm, "python", lambda: vllm.sys.executable)
    monkeypatch.setattr(vllm.tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    for sampler in vllm._last.values():
        sampler.close()
    vllm._last.clear()


def small(path, **settings) -> VllmSampler:
    return VllmSampler(path, EOS, BACKTRACK, [4], 6, VllmSettings(**settings))


def test_samples_have_the_models_log_probabilities_and_verdicts(made_up):
    sampler = small(made_up)
    prefixes = [(5, 4), (5,), (5, 4)]
    result = sampler.sample(prefixes, [40, 0, 40], 1.0, 3)
    assert [sum(s.count for s in found) for found in result] == [40, 0, 40]
    stops = set()
    for found in result:
        assert [s.count for s in found] == sorted((s.count for s in found), reverse=True)
        for s in found:
            assert s.step_ends == tuple(i for i, token in enumerate(s.tokens) if token == 4)
            assert s.logprobs == tuple(round(math.log(token / 13), 6) for token in s.tokens)
            for end, p in zip(s.step_ends, s.p_backtrack, strict=True):
                assert math.isnan(p) if end == 5 else p == round(3 / 13, 6)
            assert s.p_backtrack_start == round(3 / 13, 6)
            assert s.stop == {EOS: "goal", BACKTRACK: "backtrack"}.get(s.tokens[-1], "limit")
            assert len(s.tokens) <= 6
            stops.add(s.stop)
    assert stops == {"goal", "backtrack", "limit"}
    assert result[0] != result[2]  # a stream of its own, though the prefix is the same
    assert repr(result) == repr(sampler.sample(prefixes, [40, 0, 40], 1.0, 3))
    assert repr(result) != repr(sampler.sample(prefixes, [40, 0, 40], 1.0, 4))
    ((greedy,),) = sampler.sample([(5,)], [9], 0.0, 0)
    assert greedy.count == 9
    assert sampler.sample([], [], 1.0, 0) == []
    sampler.close()
    assert not list(made_up.glob("vllm-*.log"))
    with pytest.raises(UserError, match="closed"):
        sampler.sample([(5,)], [1], 1.0, 0)


def test_replicas_change_nothing(made_up):
    prefixes, counts = [(5,), (4,), (5, 5), (5,), (6,)], [3, 4, 0, 5, 6]
    with_one, with_three = small(made_up), small(made_up, replicas=3)
    assert repr(with_one.sample(prefixes, counts, 1.0, 8)) == repr(
        with_three.sample(prefixes, counts, 1.0, 8)
    )
    assert with_three.sample([(5,)], [2], 1.0, 8)  # fewer prefixes than replicas
    processes = [worker.process for worker in with_three._workers]
    with_three.close()
    with_one.close()
    assert all(process.poll() is not None for process in processes)


@pytest.mark.parametrize(("token", "message"), [(7, "RuntimeError: refused"), (8, "out of memory")])
def test_a_failure_is_one_line_and_ends_the_processes(made_up, token, message):
    sampler = small(made_up, replicas=2)
    with pytest.raises(UserError, match=f"^vLLM failed: .*{message}") as failure:
        sampler.sample([(5,), (token,)], [1, 1], 1.0, 0)
    assert "\n" not in str(failure.value)
    assert all(worker.process.poll() is not None for worker in sampler._workers)
    assert len(list(made_up.glob("vllm-*.log"))) == 1  # the one that failed


def test_a_killed_process_is_named(made_up):
    sampler = small(made_up)
    os.kill(sampler._workers[0].process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="its process ended with SIGKILL"):
        sampler.sample([(5,)], [1], 1.0, 0)


def test_an_engine_that_does_not_start_says_why(made_up):
    LlamaConfig().save_pretrained(made_up / "broken")
    with pytest.raises(UserError, match="vLLM failed: ValueError: no such model"):
        small(made_up / "broken")


def test_one_engine_is_kept_until_another_is_asked_for(made_up):
    LlamaConfig().save_pretrained(made_up / "other")
    arguments = (EOS, BACKTRACK, (4,), 6, VllmSettings())
    first = shared_sampler(made_up, *arguments)
    assert shared_sampler(made_up, *arguments) is first
    other = shared_sampler(made_up / "other", *arguments)
    assert not first.close.alive and other.close.alive
    other.close()
    assert shared_sampler(made_up / "other", *arguments) is not other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([()], [1], 1.0, 0), "empty"),
        (([(5,)], [1, 2], 1.0, 0), "1 prefixes with 2 counts"),
        (([(5,)], [1], -1.0, 0), "temperature -1"),
        (([(5,)], [1], 0.005, 0), "must be 0 or from 0.01 on"),
        (([(5,) * 11], [1], 1.0, 0), "11 tokens and 6 new ones.* allow 16 together"),
    ],
)
def test_bad_arguments(made_up, arguments, message):
    sampler = small(made_up)
    with pytest.raises(UserError, match=message):
        sampler.sample(*arguments)
    assert sampler.close.alive
    sampler.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"dtype": "int8"}, "float32"), ({"replicas": 0}, "replicas"), ({"cache_gb": -1}, "cache_gb")],
)
def test_bad_settings(settings, message):
    with pytest.raises(UserError, match=message):
        VllmSettings(**settings)


def test_without_the_environment_one_line_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(vllm, "ENVIRONMENT", tmp_path)
    with pytest.raises(UserError, match="run `make env-vllm` first") as failure:
        vllm.python()
    assert "\n" not in str(failure.value)


# The profile's word


def profile(tmp_path, word: str = "", section: str = ""):
    text = (ROOT / "profiles" / "smoke.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("[search]\n", f"[search]\n{word}\n") + section)
    return load_profile(str(path))


def search_inputs(loaded, variant=None, **others) -> dict:
    """What the key of a search is made of, beside its code."""
    run = SimpleNamespace(make=lambda name, inputs, make: inputs)
    experiment = Experiment(loaded, "mine", 0, run)
    problems = experiment.task.make_problems({"seen": 3}, 0)
    checkpoint = SimpleNamespace(key="k", name="models/S")
    how = {"temperature": 0.7, "expansion": "sample", "per_state": "sqrt"} | others
    spec = experiment.spec(4, 1, **how)
    inputs = experiment.search(checkpoint, problems, spec, variant)
    return {name: value for name, value in inputs.items() if name != "versions"}


def test_only_vllm_changes_what_a_search_is_made_of(tmp_path):
    plain = search_inputs(profile(tmp_path))
    assert set(plain) == {"checkpoint", "prompts", "breadth", "depth", "temperature", "seed"}
    assert search_inputs(profile(tmp_path, 'sampler = "cache"')) == plain
    with_vllm = search_inputs(profile(tmp_path, 'sampler = "vllm"'))
    assert with_vllm == plain | {"sampler": "vllm", "dtype": "float32"}
    halved = profile(tmp_path, 'sampler = "vllm"', '\n[vllm]\ndtype = "bfloat16"\nreplicas = 2\n')
    assert search_inputs(halved) == plain | {"sampler": "vllm", "dtype": "bfloat16"}
    for how in ({"variant": PublishedSampling(beams=True)}, {"expansion": "stochastic_beam"}):
        others = [search_inputs(loaded, **how) for loaded in (profile(tmp_path), halved)]
        assert others[0] == others[1]  # transformers samples these in any case
    with pytest.raises(UserError, match=r"search.sampler = 'vlm': must be cache or vllm"):
        profile(tmp_path, 'sampler = "vlm"')
    with pytest.raises(UserError, match=r"mine.toml: vllm.replicas = 0"):
        profile(tmp_path, 'sampler = "vllm"', "\n[vllm]\nreplicas = 0\n")


# The real one

real = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ENVIRONMENT / ".pins-installed").exists(), reason="no .venv-vllm: run `make env-vllm`"
    ),
]
PIECES = ["1", "2", "+", "=", "\n"]
TOKENIZER = build_tokenizer(PIECES)
STEPS = StepTokenizer(TOKENIZER, "\n")
PREFIXES = [(4, 6, 5, 8), (5, 6, 4, 7, 5, 8) * 12, (4,), (5, 6, 4, 7, 5, 8) * 12, (5, 5)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A small random model far from uniform, and its vLLM sampler."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(2)
    sizes = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2)
    heads = dict(num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128)
    config = LlamaConfig(vocab_size=len(TOKENIZER), **sizes, **heads, tie_word_embeddings=False)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(6)
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    assert STEPS.eos_id == EOS
    sampler = VllmSampler(folder, *STEPS.stop_ids, 8, VllmSettings(cache_gb=0.1))
    yield model, sampler
    sampler.close()


@torch.inference_mode()
def recomputed(model, prefix, tokens) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of each token, and P(<backtrack>) before each and after the last."""
    logits = model(input_ids=torch.tensor([prefix + tokens])).logits[0]
    logprobs = torch.log_softmax(logits.float(), -1)[len(prefix) - 1 :]
    own = logprobs[range(len(tokens)), list(tokens)]
    return own.numpy(), logprobs[:, BACKTRACK].exp().numpy()


class TestRealVllm:
    pytestmark = real

    @pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
    def test_log_probabilities_equal_transformers(self, llama, temperature):
        model, sampler = llama
        counts = [40, 50, 1, 7, 0]
        result = sampler.sample(PREFIXES, counts, temperature, seed=3)
        assert [sum(s.count for s in found) for found in result] == counts
        for prefix, found in zip(PREFIXES, result, strict=True):
            for s in found:
                logprobs, backtrack = recomputed(model, prefix, s.tokens)
                np.testing.assert_allclose(s.logprobs, logprobs, atol=1e-4)
                assert abs(s.p_backtrack_start - backtrack[0]) < 1e-4
                for end, p in zip(s.step_ends, s.p_backtrack, strict=True):
                    assert math.isnan(p) if end == 7 else abs(p - backtrack[end + 1]) < 1e-4
                ends = [token for token in s.tokens if token in (EOS, BACKTRACK)]
                assert ends == ([] if s.stop == "limit" else [s.tokens[-1]])
                assert len(s.tokens) == 8 or ends
                if temperature == 0:
                    ids = list(prefix)
                    for token in s.tokens:
                        assert token == model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()
                        ids.append(token)
        if temperature:
            assert {s.stop for found in result for s in found} == {"goal", "backtrack", "limit"}
            assert any(s.step_ends for found in result for s in found)

    def test_equal_calls_give_equal_draws_whatever_is_sampled_with_them(self, llama):
        _, sampler = llama

        def drawn(*arguments):
            return [[(s.tokens, s.count) for s in found] for found in sampler.sample(*arguments)]

        together = drawn(PREFIXES, [6, 5, 4, 3, 2], 1.0, 9)
        assert drawn(PREFIXES, [6, 5, 4, 3, 2], 1.0, 9) == together
        assert drawn([PREFIXES[1]], [5], 1.0, 9) == [together[1]]
        assert drawn(PREFIXES, [6, 5, 4, 3, 2], 1.0, 8) != together

    def test_more_prompts_than_one_step_computes(self, llama):
        model, sampler = llama
        generator = np.random.default_rng(0)
        prefixes = [tuple(row) for row in generator.integers(4, 9, (90, 100)).tolist()]
        result = sampler.sample(prefixes, [2] * 90, 1.0, 0)
        for index in (0, 40, 41, 89):
            for s in result[index]:
                logprobs, _ = recomputed(model, prefixes[index], s.tokens)
                np.testing.assert_allclose(s.logprobs, logprobs, atol=1e-4)
        few = sampler.sample(prefixes[39:43], [2] * 4, 1.0, 0)
        drawn = [[(s.tokens, s.count) for s in found] for found in result[39:43]]
        assert drawn == [[(s.tokens, s.count) for s in found] for found in few]

    @pytest.mark.parametrize("temperature", [1.0, 0.6])
    def test_frequencies_are_those_of_the_model(self, llama, temperature, monkeypatch):
        """Chi-square of all continuations of up to 3 tokens, those of vLLM and ours alike."""
        model, sampler = llama
        count, prefix = 6000, (4, 6, 5, 8)
        monkeypatch.setattr(sampler, "max_new_tokens", 3)
        exact = exact_probabilities(model, prefix, temperature)
        assert sum(exact.values()) == pytest.approx(1, abs=1e-5)
        task = SimpleNamespace(step_end="\n")
        for which in (sampler, make_sampler(model, StepTokenizer(TOKENIZER, task.step_end), 3)):
            (found,) = which.sample([prefix], [count], temperature, seed=1)
            drawn = {s.tokens: s.count for s in found}
            assert drawn.keys() <= exact.keys()
            often = [tokens for tokens, p in exact.items() if count * p >= 5]
            expected = [count * exact[tokens] for tokens in often]
            observed = [drawn.get(tokens, 0) for tokens in often]
            rest = count - sum(expected)
            assert len(often) > 20
            observed, expected = [*observed, count - sum(observed)], [*expected, rest]
            assert chisquare(observed, expected).pvalue > 1e-3

    def test_a_search(self, llama):
        model, sampler = llama
        prompts = ["1+2\n", "2+2=1\n", "1+1=2\n2+1\n"]
        trees = search(sampler, STEPS, prompts, SearchSpec(16, 1, 1.0, 0))
        again = search(sampler, STEPS, prompts, SearchSpec(16, 1, 1.0, 0))
        shape = [[(node.parent, node.tokens, node.visits) for node in t.nodes] for t in trees]
        assert shape == [
            [(node.parent, node.tokens, node.visits) for node in t.nodes] for t in again
        ]
        assert any(node.level == 1 for tree in trees for node in tree.nodes)
        for prompt, tree in zip(prompts, trees, strict=True):
            ids = {0: tuple(TOKENIZER(prompt, add_special_tokens=False)["input_ids"])}
            assert tree.nodes[0].visits == 16
            for node in tree.nodes[1:]:
                ids[node.id] = ids[node.parent] + node.tokens
                if node.tokens:
                    logprobs, backtrack = recomputed(model, ids[node.parent], node.tokens)
                    np.testing.assert_allclose(node.logprobs, logprobs, atol=1e-4)
                    if node.kind == "step" and node.p_backtrack is not None:
                        assert abs(node.p_backtrack - backtrack[-1]) < 1e-4


@torch.inference_mode()
def exact_probabilities(model, prefix, temperature) -> dict[tuple[int, ...], float]:
    """P of every continuation of up to 3 tokens, by enumeration."""
    vocabulary = range(len(TOKENIZER))
    rows = torch.tensor([[*prefix, a, b] for a, b in itertools.product(vocabulary, repeat=2)])
    logits = model(input_ids=rows).logits[:, -3:].double() / temperature
    table = torch.softmax(logits, -1).numpy()
    found: dict[tuple[int, ...], float] = {}
    for row, (a, b) in enumerate(itertools.product(vocabulary, repeat=2)):
        first = float(table[row, 0, a])
        second = first * float(table[row, 1, b])
        if a in (EOS, BACKTRACK):
            found[(a,)] = first
        elif b in (EOS, BACKTRACK):
            found[(a, b)] = second
        else:
            found |= {(a, b, c): second * float(table[row, 2, c]) for c in vocabulary}
    return found
