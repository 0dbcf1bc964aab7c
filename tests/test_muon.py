"""Muon: orthogonal updates, AdamW for the rest, and a state that survives a checkpoint."""

import pytest
import torch
from torch.optim import AdamW
from torch.utils.flop_counter import FlopCounterMode

from lib.base import hardware
from lib.models.llama import build_model
from lib.models.tokenizer import build_tokenizer
from lib.training.muon import COEFFICIENTS, MuonAdamW, orthogonalise, orthogonalise_flops

TOKENIZER = build_tokenizer(("1", "2", "+", "\n"))


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: False)


def model_and_optimizer(**options):
    model = build_model(TOKENIZER, 16, 2, 2, seed=0)
    return model, MuonAdamW(model, 0.02, 0.01, **options)


def steps(model, optimizer, count):
    for seed in range(count):
        ids = torch.randint(0, 8, (4, 6), generator=torch.Generator().manual_seed(seed))
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 8, 32), (1, 1, 5)])
def test_orthogonalise(shape):
    gradients = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    made = orthogonalise(gradients)
    assert made.shape == gradients.shape and made.dtype == torch.float32
    values = torch.linalg.svdvals(made)
    # Five steps bring singular values of the usual size near 1; the smallest lag behind.
    assert values.max() < 1.3 and values.median() > 0.6
    # The singular vectors stay: the product with the nearest orthogonal matrix is nearly its own.
    u, _, v = torch.linalg.svd(gradients, full_matrices=False)
    aligned = u.mT @ made @ v.mT
    off = aligned - torch.diag_embed(torch.diagonal(aligned, dim1=1, dim2=2))
    assert off.abs().max() < 1e-3


@pytest.mark.parametrize("columns", [24, 47, 48, 130])
def test_iterated_on_gram_matrices_or_not_it_is_one_iteration(columns):
    """Against the iteration by its definition, on singular values from 1 to 1e-6 of the largest."""
    random = torch.Generator().manual_seed(0)
    scale = torch.logspace(0, -6, columns)
    gradients = torch.randn(3, 24, columns, generator=random) * scale
    a, b, c = COEFFICIENTS
    expected = gradients.double() / gradients.double().norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        gram = expected @ expected.mT
        expected = a * expected + (b * gram + c * gram @ gram) @ expected
    assert (orthogonalise(gradients) - expected).abs().max() < 1e-3


@pytest.mark.parametrize(("columns", "dtype"), [(24, "float32"), (48, "float32"), (48, "bfloat16")])
def test_operations_are_those_of_its_products(monkeypatch, columns, dtype):
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: dtype == "bfloat16")
    gradients = torch.randn(1, 24, columns)
    with FlopCounterMode(display=False) as counter:
        orthogonalise(gradients)
    assert counter.get_total_flops() == orthogonalise_flops(24, columns, getattr(torch, dtype))


@pytest.mark.parametrize("columns", [4, 8])
def test_no_gradient_no_direction(columns):
    assert torch.equal(orthogonalise(torch.zeros(1, 4, columns)), torch.zeros(1, 4, columns))


def test_bfloat16_gives_nearly_the_same(monkeypatch):
    gradients = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(1))
    exact = orthogonalise(gradients)
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: True)
    close = orthogonalise(gradients)
    assert close.dtype == torch.float32 and (close - exact).abs().max() < 0.05


def test_which_weights_muon_takes():
    model, optimizer = model_and_optimizer()
    muon, rest = (group["params"] for group in optimizer.param_groups)
    embeddings = model.get_input_embeddings().weight
    assert all(p.ndim == 2 and p is not embeddings for p in muon) and len(muon) == 2 * 7
    assert any(p is embeddings for p in rest) and len(rest) == 1 + 2 * 2 + 1
    assert len({id(p) for p in [*muon, *rest]}) == len(list(model.parameters()))


def test_the_rest_moves_as_adamw_moves_it():
    model, optimizer = model_and_optimizer()
    twin = build_model(TOKENIZER, 16, 2, 2, seed=0)
    embeddings = twin.get_input_embeddings().weight
    reference = AdamW([embeddings], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
    for seed in range(3):
        gradient = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(seed))
        embeddings.grad = gradient
        model.get_input_embeddings().weight.grad = gradient.clone()
        reference.step()
        optimizer.step()
    assert torch.allclose(model.get_input_embeddings().weight, embeddings, atol=1e-7)


def test_muon_moves_a_matrix_by_the_usual_size():
    _, optimizer = model_and_optimizer(weight_decay=0.0)
    for shape in ((16, 64), (64, 16)):
        weight = next(p for p in optimizer.param_groups[0]["params"] if p.shape == shape)
        before = weight.detach().clone()
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        moved = weight.detach() - before
        # Root mean square 0.2 times the learning rate, along minus the gradient.
        assert float(moved.square().mean().sqrt()) == pytest.approx(0.2 * 0.02, rel=0.2)
        assert (moved * weight.grad).sum() < 0
        weight.grad = None


def test_training_lowers_the_loss():
    model, optimizer = model_and_optimizer()
    ids = torch.tensor([[4, 5, 6, 4, 5, 7]])
    losses = []
    for _ in range(40):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


def test_state_survives_a_round_trip(tmp_path):
    model, optimizer = model_and_optimizer()
    steps(model, optimizer, 3)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    twin, restored = model_and_optimizer()
    twin.load_state_dict(model.state_dict())
    restored.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    for pair in ((model, optimizer), (twin, restored)):
        steps(*pair, 2)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)
