"""Batches packed in one row: every example once and whole, and the padded batch's losses."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_packing import EXAMPLES, RECIPE, TOKENIZER, TRACES, assert_same_step, example, tiny

from lib.training import packing, trainer
from lib.training.batches import collate, collator
from lib.training.packing import FLAT, FlatShape, flat_attention_fits, flat_shape, pack_flat
from lib.training.trainer import TrainingSpec, train, weighted_loss


def attention_by_definition(query, key, value, starts, others, longest, most, scale, window_size):
    """Stands in for the GPU's kernel: one sequence after another, by SDPA."""
    assert starts is others and longest == most and window_size == (-1, 0)
    assert starts.dtype == torch.int32 and int(starts.diff().max()) <= longest
    assert starts[0] == 0 and starts[-1] == len(query)
    parts = []
    for start, end in pairwise(starts.tolist()):
        q, k, v = (x[start:end].transpose(0, 1)[None] for x in (query, key, value))
        found = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scale
        )
        parts.append(found[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(packing, "varlen_attn", attention_by_definition)


def test_pack_flat_by_hand():
    examples = [example(5, 6), example(7, 8, 9), example(4)]
    batch = pack_flat(examples, 0, 4.0, FlatShape(10, 6, 3))
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 4, 0, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 2, 0, 0, 1, 2, 0]]
    assert batch["loss_weights"].tolist() == [[0, 1, 0, 1, 1, 0, 0, 0, 0, 0]]
    # Three examples, two of padding, and one that is left over.
    assert batch["starts"].tolist() == [0, 2, 5, 6, 9, 10, 10] and batch["longest"] == 3


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(20, 700))
def test_every_example_once_and_whole(lengths, tokens):
    examples = [example(*range(1, length + 1)) for length in lengths]
    batch = pack_flat(examples, 0, 1.0, FlatShape(tokens, 60, 20))
    starts, ids = batch["starts"].tolist(), batch["input_ids"][0].tolist()
    assert len(ids) % tokens == 0 and starts[-1] == len(ids)
    assert all(0 <= size <= 20 for size in np.diff(starts))
    found = [ids[a:b] for a, b in pairwise(starts)][: len(lengths)]
    assert found == [list(range(1, length + 1)) for length in lengths]
    assert batch["loss_weights"].sum() == sum(lengths) - len(lengths)


def test_batches_of_one_shape():
    """What torch.compile sees is the same from batch to batch."""
    lengths = TRACES.lengths()
    shape, generator = flat_shape(lengths, 16), np.random.default_rng(1)
    shapes = set()
    for _ in range(30):
        batch = pack_flat([TRACES[i] for i in generator.choice(128, 16)], 0, 1.0, shape)
        shapes.add((*batch["input_ids"].shape, *batch["starts"].shape, batch["longest"]))
    assert len(shapes) == 1 and shape == flat_shape(lengths, 16)  # the same for a resumed run
    assert shape.tokens < 1.3 * 16 * lengths.mean() + packing.TOKENS_MULTIPLE


def test_losses_and_gradients_are_the_padded_batch_s(kernel):
    padded = collate(EXAMPLES, TOKENIZER.pad_token_id, 4.0)
    packed = pack_flat(EXAMPLES, TOKENIZER.pad_token_id, 4.0, FlatShape(640, 40, 64))
    assert_same_step((tiny("sdpa"), padded), (tiny(FLAT), packed))


def test_a_batch_larger_than_its_shape_has_the_same_loss(kernel):
    model, losses = tiny(FLAT), []
    for shape in (FlatShape(640, 40, 64), FlatShape(128, 3, 8)):
        batch = pack_flat(EXAMPLES, 0, 4.0, shape)
        weights = batch.pop("loss_weights")
        logits = model(**batch, use_cache=False).logits
        losses.append(weighted_loss(logits, batch["input_ids"], weights).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_training_flat_is_training_packed(kernel, monkeypatch, tmp_path):
    """The same random batches step by step and the same losses; a plain checkpoint is left."""
    packed = train(tiny(), TOKENIZER, TRACES, TrainingSpec(RECIPE, 0, 1), tmp_path / "a")
    monkeypatch.setattr(trainer, "fast_attention", lambda m, flat: m.set_attn_implementation(FLAT))
    model = tiny()
    flat = train(model, TOKENIZER, TRACES, TrainingSpec(RECIPE, 0, 1), tmp_path / "b")
    assert np.allclose(packed.loss, flat.loss, rtol=1e-3)
    assert model.config._attn_implementation == "sdpa"


def test_a_processor_packs_in_rows():
    model = tiny()
    assert not flat_attention_fits(model)
    batch = collator(RECIPE, TOKENIZER, TRACES, 16, model.config)(EXAMPLES)
    assert "starts" not in batch
