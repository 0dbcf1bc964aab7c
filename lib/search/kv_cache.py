"""A key-value cache whose rows come and go: takes the keys and values of one model layer, gives
them back from a buffer with spare room.

It is transformers' own `DynamicCache` with two costs removed. `DynamicLayer` copies the whole cache
for every new token (`torch.cat`) and again whenever a row leaves or splits; here a token is written
in place, and only the rows that changed are copied. Knows nothing of tokens, samples or searches.
"""

from collections.abc import Sequence

import torch
from transformers import AttentionInterface, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from lib.search.kv_trie import Prefilled

# Room is made for this many more tokens at a time. More saves copies and costs speed: rows that lie
# far apart in memory are read more slowly (a third slower with room for 30, on a CPU).
SPARE_LENGTH = 4
# Below so many multiplications a matrix, torch multiplies batches of them on a CPU with a loop of
# its own in place of the library's: up to five times slower than one token after another.
SMALL_PRODUCT = 400


class BufferedLayer(DynamicLayer):
    """Keys and values are views `[rows, heads, length, head size]` of larger buffers."""

    def __init__(self):
        super().__init__()
        self.buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def _show(self, rows: int, length: int) -> None:
        self.keys, self.values = (buffer[:rows, :, :length] for buffer in self.buffers)

    def take(self, buffers: tuple[torch.Tensor, torch.Tensor], length: int) -> None:
        """Begin with buffers whose first `length` tokens are there."""
        self.buffers, self.is_initialized = buffers, True
        self.dtype, self.device = buffers[0].dtype, buffers[0].device
        self._show(len(buffers[0]), length)

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

    def __init__(
        self,
        prefilled: Prefilled,
        prefix_of_row: torch.Tensor,
        states: Sequence[tuple[torch.Tensor, torch.Tensor]] = (),
        length: int = 0,
        padding: torch.Tensor | None = None,
    ):
        """`states`: keys and values, a layer `[rows, heads, length and room, head size]`, of
        continuations that are there already, `length` tokens of them; `padding [rows]`: how many
        of these tokens, on the left, are none."""
        super().__init__()
        self.layers = [BufferedLayer() for _ in prefilled.keys]
        for layer, buffers in zip(self.layers, states, strict=False):
            layer.take(buffers, length)
        prefixes, self.kv_heads, self.length, size = prefilled.keys[0].shape
        self.prefixes = [
            tuple(part.reshape(prefixes * self.kv_heads, self.length, size) for part in pair)
            for pair in zip(prefilled.keys, prefilled.values, strict=True)
        ]
        hidden = torch.arange(self.length, device=prefix_of_row.device) < prefilled.padding[:, None]
        self.hidden = None
        if bool(hidden.any()):
            self.hidden = hidden.repeat_interleave(self.kv_heads, 0)[:, None]
        self.padding = padding if padding is not None and bool(padding.any()) else None
        self.count = prefixes
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
        """Give each row its place among the rows of its prefix: a grid, prefixes by places."""
        self.prefix_of_row = prefix_of_row
        sizes = torch.bincount(prefix_of_row, minlength=self.count)
        order = prefix_of_row.argsort(stable=True)
        starts = (sizes.cumsum(0) - sizes)[prefix_of_row[order]]
        self.place = torch.empty_like(order)
        self.place[order] = torch.arange(len(order), device=order.device) - starts
        self.most_rows = int(sizes.max())
        self.to_grid = None  # made by the first layer that attends: it depends on the query's heads

    def _arrange(self, repeat: int) -> None:
        """Indices between rows `(row, head)` and the grid `(prefix, kv head, place, repeat)`.

        Heads are split between prefix and place so that all rows of a prefix are one matrix.
        Places that no row has take the first row's contents, which nobody reads.
        """
        device = self.place.device
        kv = torch.arange(self.kv_heads, device=device)[:, None]
        each = torch.arange(repeat, device=device)
        head = kv * repeat + each  # [kv heads, repeat]
        row = torch.zeros(self.count * self.most_rows, dtype=torch.int64, device=device)
        rows = torch.arange(len(self.place), device=device)
        row[self.prefix_of_row * self.most_rows + self.place] = rows
        row = row.view(self.count, 1, self.most_rows, 1)
        self.to_grid = (row * head.numel() + head[None, :, None]).reshape(-1)
        matrix = self.prefix_of_row[:, None, None] * self.kv_heads + kv
        self.to_rows = (matrix * self.most_rows + self.place[:, None, None]) * repeat + each
        self.to_rows = self.to_rows.reshape(-1)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        if self.padding is not None:
            self.padding = self.padding[indices]
        self._assign(self.prefix_of_row[indices])

    def attend(self, layer: int, query, key, value, scaling: float) -> torch.Tensor:
        """Attention output `[rows, heads, 1, head size]`; key and value are the continuations'."""
        prefix_key, prefix_value = self.prefixes[layer]
        rows, heads, _, size = query.shape
        repeat, own = heads // self.kv_heads, key.shape[2]
        if self.to_grid is None:
            self._arrange(repeat)
        query = (query * scaling).view(rows * heads, size)

        grid = query.index_select(0, self.to_grid)
        on_prefix = grid.view(len(prefix_key), -1, size) @ prefix_key.transpose(1, 2)
        if self.hidden is not None:
            on_prefix.masked_fill_(self.hidden, torch.finfo(on_prefix.dtype).min)
        on_prefix = on_prefix.view(-1, self.length).index_select(0, self.to_rows)
        key = key.reshape(rows * self.kv_heads, own, size).transpose(1, 2)
        on_own = query.view(rows * self.kv_heads, repeat, size) @ key
        if self.padding is not None:
            unused = torch.arange(own, device=query.device) < self.padding[:, None]
            on_own.view(rows, heads, own).masked_fill_(
                unused[:, None], torch.finfo(on_own.dtype).min
            )
        scores = torch.cat([on_prefix, on_own.view(rows * heads, own)], dim=-1)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        grid = weights[:, : self.length].index_select(0, self.to_grid)
        from_prefix = grid.view(len(prefix_key), -1, self.length) @ prefix_value
        output = from_prefix.view(-1, size).index_select(0, self.to_rows)
        of_own = weights[:, self.length :].view(rows * self.kv_heads, repeat, own)
        value = value.reshape(rows * self.kv_heads, own, size)
        added = output.view(rows * self.kv_heads, repeat, size)
        if value.device.type == "cpu" and own * repeat * size < SMALL_PRODUCT:
            for token in range(own):
                added.addcmul_(of_own[:, :, token, None], value[:, token, None])
        else:
            added.baddbmm_(of_own, value)
        return output.view(rows, heads, 1, size)


SHARED_PREFIX_MODELS = ("llama", "qwen2", "qwen3")
SHARED_PREFIX = "shared_prefix"  # the name of its attention among transformers' implementations


def _attention(module, query, key, value, attention_mask, scaling, shared_prefixes, **_):
    output = shared_prefixes.attend(module.layer_idx, query, key, value, scaling)
    return output.transpose(1, 2), None


AttentionInterface.register(SHARED_PREFIX, _attention)
