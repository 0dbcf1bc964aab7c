"""Text to token ids and back, for from-scratch tokenizers and for the hub's.

Takes a task's pieces, or traces with their loss masks; gives an ordinary fast tokenizer, and ids
with a loss code for each token. Knows nothing of models. `<backtrack>` is a special token (the
paper, section 3.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lib.base.errors import UserError
from lib.base.files import read_json, write_atomic
from lib.tasks.task import BACKTRACK

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
ENCODE_BATCH = 10_000


def build_tokenizer(pieces: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are exactly `pieces` and the four special ones.

    Where pieces overlap the longest wins. Other text becomes `<unk>`, one for each character.
    """
    vocabulary = {token: index for index, token in enumerate([PAD, EOS, UNK, BACKTRACK, *pieces])}
    # Without merges this model splits text into characters; longer pieces are matched before it.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNK, fuse_unk=False))
    long = sorted((piece for piece in pieces if len(piece) > 1), key=len, reverse=True)
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in long])
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        additional_special_tokens=[BACKTRACK],
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=1_000_000,
    )


def add_backtrack(tokenizer: PreTrainedTokenizerBase) -> int:
    """Make `<backtrack>` one special token, and give padding a token; returns how many were new.

    Padding gets a token of its own: where it is the end of sequence, its loss is hard to mask.
    """
    new = tokenizer.add_special_tokens(
        {"extra_special_tokens": [BACKTRACK]}, replace_extra_special_tokens=False
    )
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        new += tokenizer.add_special_tokens({"pad_token": PAD})
    tokenizer.padding_side = "left"
    tokenizer.init_kwargs["padding_side"] = "left"  # what saving writes
    return new


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the tokenizer into a checkpoint's folder, so that transformers from 4.46 on reads it.

    Version 5 writes names that no other knows: one of its classes, and of the special tokens.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    found = read_json(path)
    if found["tokenizer_class"] == "TokenizersBackend":
        found["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(extra := found.pop("extra_special_tokens", None), list):
        found["additional_special_tokens"] = extra
    for own in ("backend", "is_local", "local_files_only"):
        found.pop(own, None)
    write_atomic(path, json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def backtrack_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of `<backtrack>`; `UserError` where the tokenizer has no such token."""
    found = tokenizer.convert_tokens_to_ids(BACKTRACK)
    if found is None or found == tokenizer.unk_token_id:
        raise UserError(f"tokenizer {tokenizer.name_or_path!r}: no token {BACKTRACK}; train first")
    return found


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], step_end: str = "\n"
) -> list[list[int]]:
    """Prompts as token ids, with the beginning-of-sequence token where the tokenizer has one.

    The ids are exactly those that `encode_traces` gives to these prompts' part of a trace.
    """
    begin = _begin(tokenizer)
    encoded = _encode(tokenizer, list(prompts), step_end)
    return [begin + ids for ids, _ in encoded]


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], step_end: str
) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Ids and character spans of each text's tokens, none of which reaches past a step's end.

    A vocabulary may have tokens that do, such as a line end with the digits after it. A search that
    rolls back to a step's end would then give the model ids that it was not trained on, so texts
    are encoded step by step for such a vocabulary.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a slow tokenizer: it has no spans, and no vocabulary to look into
        encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        yield from ((ids, []) for ids in encoded)
        return
    # Both are state of a fast tokenizer, which its file or an earlier call can have switched on.
    backend.no_padding()
    backend.no_truncation()
    # Bytes of a byte-level vocabulary are written as letters: a line end as the first of these.
    ends = (step_end.translate({10: "\u010a", 32: "\u0120"}), step_end)
    vocabulary = backend.get_vocab(with_added_tokens=False).keys()
    # Those that a task's from-scratch tokenizer adds are whole pieces of its question.
    vocabulary -= {token.content for token in tokenizer.added_tokens_decoder.values()}
    if not any(end in token[: -len(end)] for token in vocabulary for end in ends):
        # The wrapper's own call takes ten times as long for the same ids and offsets.
        encodings = backend.encode_batch(list(texts), add_special_tokens=False) if texts else []
        for encoding in encodings:
            yield encoding.ids, encoding.offsets
        return
    parts = [[part for part in re.split(f"(?<={re.escape(step_end)})", t) if part] for t in texts]
    flat = [part for split in parts for part in split]
    encodings = iter(backend.encode_batch(flat, add_special_tokens=False) if flat else [])
    for split in parts:
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        at = 0
        for part in split:
            encoding = next(encodings)
            ids += encoding.ids
            spans += [(at + start, at + end) for start, end in encoding.offsets]
            at += len(part)
        yield ids, spans


def _begin(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


@dataclass(frozen=True)
class TokenizedTraces:
    """Traces as ids and loss codes, end to end in two flat arrays.

    ids: int32 [tokens]; codes: uint8 [tokens] (0 no loss, 1 loss, 2 verdict);
    starts: int64 [n + 1].
    """

    ids: np.ndarray
    codes: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        span = slice(self.starts[index], self.starts[index + 1])
        return {"input_ids": self.ids[span], "loss_codes": self.codes[span]}

    def lengths(self) -> np.ndarray:
        """Tokens of each trace: int64 [n]."""
        return np.diff(self.starts)


def encode_traces(
    tokenizer: PreTrainedTokenizerBase,
    traces: pd.DataFrame,
    max_tokens: int | None = None,
    step_end: str = "\n",
) -> TokenizedTraces:
    """Ids and loss codes of traces (columns text, mask).

    A token carries loss only if all of its characters do, and is a verdict only if all of them
    are, so that no masked character leaks loss through a token that straddles a boundary. A path
    that reaches its goal ends in the end-of-sequence token, with loss. Raises `UserError` where a
    mask's length is not its text's, or a trace has more than `max_tokens` tokens.
    """
    backtrack = backtrack_id(tokenizer)
    begin, parts_ids, parts_codes, lengths = _begin(tokenizer), [], [], []
    texts, masks = traces["text"].tolist(), traces["mask"].tolist()
    for start in range(0, len(texts), ENCODE_BATCH):
        batch = texts[start : start + ENCODE_BATCH]
        encoded = _encode(tokenizer, batch, step_end)
        rows = zip(encoded, batch, masks[start : start + ENCODE_BATCH], strict=True)
        for row, ((ids, spans), text, mask) in enumerate(rows, start):
            if len(mask) != len(text):
                raise UserError(f"trace {row}: {len(mask)} mask characters for {len(text)} of text")
            if not ids or mask.strip("012"):
                raise UserError(f"trace {row}: no text, or a mask of others than 0, 1 and 2")
            # An empty token (a byte of a longer character, say) carries no loss.
            codes = [int(min(mask[a:b], default="0")) for a, b in spans]
            end = [] if ids[-1] == backtrack else [tokenizer.eos_token_id]
            ids = [*begin, *ids, *end]
            if max_tokens is not None and len(ids) > max_tokens:
                raise UserError(f"trace {row}: {len(ids)} tokens, more than {max_tokens}")
            parts_ids.append(ids)
            parts_codes.append([*[0] * len(begin), *codes, *[1] * len(end)])
            lengths.append(len(ids))
    return TokenizedTraces(
        np.fromiter((token for ids in parts_ids for token in ids), np.int32),
        np.fromiter((code for codes in parts_codes for code in codes), np.uint8),
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
    )


#: A vocabulary's pieces of this text where the tokenizer itself is not at hand: numbers in groups
#: of up to three digits (Llama-3) or digit by digit, and words, signs and line ends.
PIECES = {
    3: re.compile(r"\d{1,3}| ?[A-Za-z]+| ?[^\sA-Za-z\d]+\n*|\n+|."),
    1: re.compile(r"\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]+\n*|\n+|."),
}
