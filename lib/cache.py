"""A key-value cache whose rows come and go: takes the keys and values of one model layer, gives
them back from a buffer with spare room.

It is transformers' own `DynamicCache` with two costs removed. `DynamicLayer` copies the whole cache
for every new token (`torch.cat`) and again whenever a row leaves or splits; here a token is written
in place, and only the rows that changed are copied. Knows nothing of tokens, samples or searches.
"""

import torch
from transformers import AttentionInterface, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

# Room is made for this many more tokens at a time. More saves copies and costs speed: rows that lie
# far apart in memory are read more slowly (a third slower with room for 30, on a CPU).
SPARE_LENGTH = 4


class BufferedLayer(DynamicLayer):
    """Keys and values are views `[rows, heads, length, head size]` of larger buffers."""

    def __init__(self):
        super().__init__()
        self.buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def _show(self, rows: int, length: int) -> None:
        self.keys, self.values = (buffer[:rows, :, :length] for buffer in self.buffers)

    def _allocate(self, rows: int, length: int) -> None:
        old = (self.keys, self.values)
        self.buffers = tuple(
            part.new_empty((rows, part.shape[1], length, part.shape[3])) for part in old
        )
        for buffer, part in zip(self.buffers, old, strict=True):
            buffer[: part.shape[0], :, : part.shape[2]] = part

    def update(self, key_states, value_states, *args, **kwargs):
        if not self.is_initialized:
            self.keys, self.values = key_states, value_states
            self.dtype, self.device = key_states.dtype, key_states.device
            self.is_initialized = True
            return self.keys, self.values
        rows, _, old, _ = self.keys.shape
        length = old + key_states.shape[2]
        if self.buffers is None or length > self.buffers[0].shape[2]:
            self._allocate(rows, length + SPARE_LENGTH)
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, old:length] = states
        self._show(rows, length)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Row i becomes what row `indices[i]` was; a row that stays where it is costs nothing."""
        if self.get_seq_length() == 0:
            return
        rows, _, length, _ = self.keys.shape
        count = indices.shape[0]
        if self.buffers is None or count > self.buffers[0].shape[0]:
            capacity = length + SPARE_LENGTH
            if self.buffers is not None:
                capacity = max(capacity, self.buffers[0].shape[2])
            self._allocate(max(count + count // 2, rows), capacity)
        moved = (indices != torch.arange(count, device=indices.device)).nonzero()[:, 0]
        if moved.shape[0]:
            source = indices[moved]
            for buffer in self.buffers:
                used = buffer[:, :, :length]
                used.index_copy_(0, moved, used.index_select(0, source))
        self._show(count, length)


def buffered_cache(config: PreTrainedConfig | None) -> DynamicCache:
    """A `DynamicCache` for the model whose full-attention layers grow in place.

    Layers of another kind (sliding window, linear attention) stay as transformers makes them.
    """
    cache = DynamicCache(config=config)
    cache.layers = [
        BufferedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


class SharedPrefixCache(DynamicCache):
    """The cache of many continuations of few prefixes: the prefixes' keys and values are kept once,
    and each row holds its own continuation alone.

    Attention must go through `attend`: over the prefixes as one matrix product for all rows of a
    prefix, over the continuations row by row, with one softmax over both.
    """

    def __init__(self, prefilled: DynamicCache, padding: torch.Tensor, prefix_of_row: torch.Tensor):
        """`padding [prefixes, 1]`: how many positions on the left of each prefix are padding."""
        super().__init__()
        self.prefixes = [(layer.keys, layer.values) for layer in prefilled.layers]
        self.layers = [BufferedLayer() for _ in prefilled.layers]
        length = self.prefixes[0][0].shape[2]
        hidden = torch.arange(length, device=padding.device) < padding
        self.hidden = hidden[:, None, None] if bool(hidden.any()) else None
        self._assign(prefix_of_row)

    @staticmethod
    def supports(model: torch.nn.Module, cache: DynamicCache) -> bool:
        """Models known to hand attention over as `attend` expects it."""
        plain = all(isinstance(layer, BufferedLayer) for layer in cache.layers)
        return (
            plain
            and getattr(getattr(model, "config", None), "model_type", None) in SHARED_PREFIX_MODELS
        )

    def _assign(self, prefix_of_row: torch.Tensor) -> None:
        """Give each row its place among the rows of its prefix."""
        self.prefix_of_row = prefix_of_row
        sizes = torch.bincount(prefix_of_row, minlength=self.prefixes[0][0].shape[0])
        order = prefix_of_row.argsort(stable=True)
        starts = (sizes.cumsum(0) - sizes)[prefix_of_row[order]]
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device) - starts
        self.most_rows = int(sizes.max())
        self.cell = prefix_of_row * self.most_rows + place

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._assign(self.prefix_of_row[indices])

    def attend(self, layer: int, query, key, value, scaling: float) -> torch.Tensor:
        """Attention output `[rows, heads, 1, head size]`; key and value are the continuations'."""
        prefix_key, prefix_value = self.prefixes[layer]
        rows, heads, _, size = query.shape
        prefixes, kv_heads, length, _ = prefix_key.shape
        repeat = heads // kv_heads
        query = (query * scaling).reshape(rows, kv_heads, repeat, size)

        def to_grid(x: torch.Tensor) -> torch.Tensor:  # rows side by side under their prefix
            grid = x.new_zeros(prefixes * self.most_rows, *x.shape[1:])
            grid[self.cell] = x
            grid = grid.view(prefixes, self.most_rows, kv_heads, repeat, -1).transpose(1, 2)
            return grid.reshape(prefixes, kv_heads, self.most_rows * repeat, -1)

        def to_rows(grid: torch.Tensor) -> torch.Tensor:
            grid = grid.view(prefixes, kv_heads, self.most_rows, repeat, -1).transpose(1, 2)
            return grid.reshape(prefixes * self.most_rows, kv_heads, repeat, -1)[self.cell]

        on_prefix = to_grid(query) @ prefix_key.transpose(2, 3)
        if self.hidden is not None:
            on_prefix.masked_fill_(self.hidden, torch.finfo(on_prefix.dtype).min)
        scores = torch.cat([to_rows(on_prefix), query @ key.transpose(2, 3)], dim=-1)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        output = weights[..., length:] @ value
        output += to_rows(to_grid(weights[..., :length]) @ prefix_value)
        return output.view(rows, heads, 1, size)


SHARED_PREFIX_MODELS = ("llama", "qwen2", "qwen3")
SHARED_PREFIX = "shared_prefix"  # the name of its attention among transformers' implementations


def _attention(module, query, key, value, attention_mask, scaling, shared_prefixes, **_):
    output = shared_prefixes.attend(module.layer_idx, query, key, value, scaling)
    return output.transpose(1, 2), None


AttentionInterface.register(SHARED_PREFIX, _attention)
