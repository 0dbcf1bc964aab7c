"""What a session remembers: the same samples as without, for less work."""

import itertools
import weakref

import numpy as np
import pytest
import torch
from test_sampler import END, PREFIXES, random_llama, recomputed, sampler

import lib.search.kv_trie
from lib.models.llama import build_model
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.kv_trie import KVTrie
from lib.search.sampler import CacheSampler
from lib.search.search import iter_search


def calls(found, prefixes):
    """Prefixes as a search makes them: each first prefix with the steps of its samples."""
    states = []
    for prefix, some in zip(prefixes, found, strict=True):
        for sample in some:
            states += [prefix + sample.tokens[: end + 1] for end in sample.step_ends]
            states.append(prefix + sample.tokens[:2])  # also a sequence that is no state
    return list(dict.fromkeys(states))


@pytest.mark.parametrize("expansion", ["sample", "beam_sample", "stochastic_beam"])
@pytest.mark.parametrize("kept_vocabulary", [1024, 0])
def test_a_session_gives_the_same_samples_as_recomputing(expansion, kept_vocabulary, monkeypatch):
    monkeypatch.setattr(lib.search.kv_trie, "KEPT_VOCABULARY", kept_vocabulary)
    model = random_llama()
    plain, session = sampler(model), sampler(model, max_rows=40).session()
    prefixes = [prefix for prefix in dict.fromkeys(PREFIXES)]
    for level in range(3):
        counts = [12 if level == 0 else 3] * len(prefixes)
        expected = plain.sample(prefixes, counts, 0.9, level, expansion)
        found = session.sample(prefixes, counts, 0.9, level, expansion)
        for prefix, mine, right in zip(prefixes, found, expected, strict=True):
            assert [(s.tokens, s.count, s.stop) for s in mine] == [
                (s.tokens, s.count, s.stop) for s in right
            ]
            for s in mine[:1]:
                logprobs, backtrack = recomputed(model, prefix, s.tokens)
                np.testing.assert_allclose(s.logprobs, logprobs, atol=1e-4)
                for end, p in zip(s.step_ends, s.p_backtrack, strict=True):
                    assert np.isnan(p) or abs(p - backtrack[end + 1]) < 1e-4
        prefixes = calls(found, prefixes)[:25]
        assert len(prefixes) > 5


def count_tokens(model) -> list[int]:
    """How many tokens the model reads, from now on, a call each."""
    read = []
    model.register_forward_pre_hook(
        lambda module, arguments, named: read.append(named["input_ids"].numel()), with_kwargs=True
    )
    return read


def test_what_was_computed_is_not_computed_again():
    model = random_llama()
    read = count_tokens(model)
    session = sampler(model).session()
    (found,) = session.sample([PREFIXES[0]], [50], 1.0, 0)
    assert read.pop(0) == len(PREFIXES[0])
    inner = {s.tokens[:i] for s in found for i in range(1, len(s.tokens))}
    assert sum(read) == len(inner)  # the last token of a sample is never read
    read.clear()
    again = session.sample([PREFIXES[0]], [50], 1.0, 0)
    assert repr(again) == repr([found]) and read == []
    state = PREFIXES[0] + next(s.tokens[: s.step_ends[0] + 1] for s in found if s.step_ends)
    session.sample([state], [30], 1.0, 1)
    assert len(read) == 0 or max(read) <= 30  # no prefix is read again, one token a row at most


def test_a_new_prefix_in_a_session_is_read_whole():
    session = sampler(random_llama()).session()
    session.sample([PREFIXES[0]], [5], 1.0, 0)
    for prefixes in ([PREFIXES[1]], [PREFIXES[0], PREFIXES[2]], [PREFIXES[0]]):
        mine = session.sample(prefixes, [9] * len(prefixes), 1.0, 4)
        right = sampler(random_llama()).sample(prefixes, [9] * len(prefixes), 1.0, 4)
        assert [[s.tokens for s in some] for some in mine] == [
            [s.tokens for s in some] for some in right
        ]


def test_sessions_are_apart():
    base = sampler(random_llama())
    one, two = base.session(), base.session()
    one.sample([(5,)], [3], 1.0, 0)
    assert base.trie is None and two.trie.count == 0 < one.trie.count


def test_a_trie_by_hand():
    trie = KVTrie(keep=True)
    roots = trie.add_roots([(5, 6), (7,)], None)
    flat = torch.full((2, 4), 0.25).log()
    trie.know(roots, flat, np.array([0.1, 0.2]), None)
    first = trie.add(roots, np.array([1, END]), np.array([-1.0, -2.0]))
    states = [(torch.randn(2, 3, 8), torch.randn(2, 3, 8)) for _ in range(2)]
    trie.know(first, flat, np.array([0.3, 0.4]), states)
    second = trie.find_or_add(first[[0, 0]], np.array([2, 3]), np.array([-3.0, -4.0]))
    assert trie.find((5, 6)) == 0 and trie.find((7, END)) == first[1]
    assert trie.find((5, 6, 1, 2)) == -1  # there, but its last token was never read
    assert trie.find((5,)) == trie.find((7, 9)) == -1
    again = trie.find_or_add(first[[0, 0]], np.array([3, 1]), np.array([-4.0, -5.0]))
    assert again[0] == second[1] and again[1] == trie.count - 1
    assert trie.length(np.array([0, 1, *first, *second])).tolist() == [2, 1, 3, 2, 4, 4]
    assert trie.known(second).tolist() == [False, False] and trie.known(first).all()

    kept, length, padding = trie.continuations(np.array([first[1], roots[0], first[0]]), 2)
    assert length == 1 and padding.tolist() == [0, 1, 0]
    for (keys, values), (own_keys, own_values) in itertools.product(kept[:1], states[:1]):
        assert keys.shape == (3, 3, 3, 8)
        assert torch.equal(keys[0, :, 0], own_keys[1]) and torch.equal(keys[2, :, 0], own_keys[0])
        assert torch.equal(values[0, :, 0], own_values[1]) and not keys[1, :, 0].any()


def test_a_search_remembers_one_chunk_at_a_time():
    """Memory is bounded by the chunk, whatever the number of problems."""
    tokenizer = build_tokenizer([*"abcdeQ", "\n"])
    model = build_model(tokenizer, 16, 1, 1, 0)
    steps = StepTokenizer(tokenizer, "\n")
    base = CacheSampler(model, *steps.stop_ids, 6, steps.pad_id)
    tries = []

    class Watched(CacheSampler):
        def session(self):
            made = CacheSampler.session(self)
            tries.append(weakref.ref(made.trie))
            return made

    base.__class__ = Watched
    alive = []
    for _ in iter_search(
        base, steps, ["Q\n", "aQ\n", "Q\nb\n"] * 4, SearchSpec(9, 2, 1.0, 0, chunk=2)
    ):
        alive.append(sum(trie() is not None for trie in tries))
    assert len(alive) == len(tries) == 6 and max(alive) <= 1
