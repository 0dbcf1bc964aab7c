"""Models: plain transformers loads what we save, and what cannot be loaded is named."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from lib.base.errors import UserError
from lib.models.llama import (
    build_model,
    load_model,
    load_tokenizer,
    parameter_count,
    resize_embeddings,
)
from lib.models.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer(("1", "2", "+", "\n"))
SIZE = (16, 2, 2)


def test_a_checkpoint_is_an_ordinary_folder(tmp_path):
    model = build_model(TOKENIZER, *SIZE, seed=0).eval()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    ids = torch.tensor([[4, 6, 5]])
    with torch.no_grad():
        expected = model(ids).logits
        for loaded in (AutoModelForCausalLM.from_pretrained(tmp_path), load_model(tmp_path)):
            assert torch.equal(loaded.eval()(ids).logits, expected)
    assert loaded.config.eos_token_id == TOKENIZER.eos_token_id


def test_the_seed_decides_the_weights():
    first, same, other = (
        build_model(TOKENIZER, *SIZE, seed=seed).get_input_embeddings().weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_parameters_are_counted_once():
    hidden, layers, wide, tokens = 16, 2, 64, len(TOKENIZER)  # 16 * 8 / 3 rounded up to 32s
    layer = 4 * hidden**2 + 3 * hidden * wide + 2 * hidden
    expected = tokens * hidden + layers * layer + hidden
    assert parameter_count(build_model(TOKENIZER, *SIZE, seed=0)) == expected


@pytest.mark.parametrize("size", [(16, 2, 3), (12, 2, 4)])
def test_impossible_sizes_are_named(size):
    with pytest.raises(UserError, match=rf"hidden_size = {size[0]}, heads = {size[2]}: heads must"):
        build_model(TOKENIZER, *size, seed=0)


def test_new_tokens_start_at_the_mean():
    model = build_model(TOKENIZER, *SIZE, seed=0)
    before = model.get_input_embeddings().weight.detach().clone()
    larger = build_tokenizer(("1", "2", "+", "\n", "3", "4"))
    resize_embeddings(model, larger)
    after = model.get_input_embeddings().weight.detach()
    assert len(after) == len(larger) == model.config.vocab_size
    assert torch.equal(after[: len(before)], before)
    # Drawn around the mean with the old embeddings' covariance, made small.
    assert torch.allclose(after[len(before) :], before.mean(0), atol=1e-3)
    resize_embeddings(model, TOKENIZER)  # fewer tokens: nothing is thrown away
    assert len(model.get_input_embeddings().weight) == len(larger)


def one_line(error: pytest.ExceptionInfo, path) -> bool:
    return "\n" not in str(error.value) and str(error.value).startswith(f"{path}: no ")


def test_missing_and_corrupt_checkpoints_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (empty, tmp_path / "none"):
        for load in (load_model, load_tokenizer):
            with pytest.raises(UserError) as error:
                load(path)
            assert one_line(error, path)
    build_model(TOKENIZER, *SIZE, seed=0).save_pretrained(empty)
    TOKENIZER.save_pretrained(empty)
    weights = empty / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError) as error:
        load_model(empty)
    assert one_line(error, empty)
    (empty / "tokenizer.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(UserError) as error:
        load_tokenizer(empty)
    assert one_line(error, empty)
    (empty / "config.json").write_text("{")
    with pytest.raises(UserError) as error:
        load_model(empty)
    assert one_line(error, empty)


def test_pickled_weights_are_refused(tmp_path):
    model = build_model(TOKENIZER, *SIZE, seed=0)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="no model can be loaded"):
        load_model(tmp_path)
