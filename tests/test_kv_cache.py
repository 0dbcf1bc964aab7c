"""The buffered cache against transformers' own; shared-prefix attention against plain."""

import pytest
import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from lib.search import kv_cache
from lib.search.kv_cache import BufferedLayer, SharedPrefixCache
from lib.search.kv_trie import Prefilled


def test_same_contents_as_transformers_own_cache():
    generator = torch.Generator().manual_seed(0)
    buffered, own = Cache(layers=[BufferedLayer()]), Cache(layers=[DynamicLayer()])
    rows, length = 3, 5
    for step in range(60):
        keys, values = torch.randn(2, rows, 2, length, 4, generator=generator)
        for found, right in zip(
            buffered.update(keys, values, 0), own.update(keys, values, 0), strict=True
        ):
            assert torch.equal(found, right), step
        length = 1
        if step % 3:
            count = int(torch.randint(1, 2 * rows + 2, (1,), generator=generator))
            indices = torch.randint(0, rows, (count,), generator=generator)
            rows = count
            buffered.batch_select_indices(indices)
            own.batch_select_indices(indices)
            assert torch.equal(buffered.layers[0].keys, own.layers[0].keys)
            assert torch.equal(buffered.layers[0].values, own.layers[0].values)
            assert buffered.get_seq_length() == own.get_seq_length()


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("padding", [(0, 0, 0), (2, 0, 1)])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("small_product", [0, 10_000])  # the library's products, our loop
def test_attention_over_shared_prefixes_equals_plain_attention(
    monkeypatch, kv_heads, padding, begun, small_product
):
    monkeypatch.setattr(kv_cache, "SMALL_PRODUCT", small_product)
    torch.manual_seed(0)
    heads, size, length, scaling = 4, 8, 5, 0.3
    prefix_key, prefix_value = torch.randn(2, 3, kv_heads, length, size)
    prefilled = Prefilled([prefix_key], [prefix_value], torch.tensor(padding))
    owner = torch.tensor([0, 0, 1, 2])
    new_key, new_value = torch.randn(2, 4, kv_heads, 3, size)
    unused = torch.tensor([0, 2, 1, 0]) if begun else torch.zeros(4, dtype=torch.int64)
    if begun:  # two tokens are there from the start, some of them padding
        room = torch.zeros(2, 4, kv_heads, 4, size)
        room[:, :, :, :2] = torch.stack([new_key, new_value])[:, :, :, :2]
        cache = SharedPrefixCache(prefilled, owner, [tuple(room)], 2, unused)
        cache.update(new_key[:, :, 2:], new_value[:, :, 2:], 0)
    else:
        cache = SharedPrefixCache(prefilled, owner)
        cache.update(new_key, new_value, 0)
    source = torch.tensor([3, 1, 0, 1, 3, 1, 2])
    cache.batch_select_indices(source)
    owner = owner[source]

    query = torch.randn(len(source), heads, 1, size)
    last_key, last_value = torch.randn(2, len(source), kv_heads, 1, size)
    found = cache.attend(0, query, *cache.update(last_key, last_value, 0), scaling)
    key = torch.cat([prefix_key[owner], new_key[source], last_key], dim=2)
    value = torch.cat([prefix_value[owner], new_value[source], last_value], dim=2)
    visible = torch.arange(length + 4) >= torch.tensor(padding)[owner][:, None]
    own = torch.arange(4) >= unused[source][:, None]
    visible[:, length:] &= own
    right = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, visible[:, None, None], scale=scaling, enable_gqa=True
    )
    torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-5)
