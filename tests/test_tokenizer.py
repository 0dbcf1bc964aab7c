"""Tokens: round trips, `<backtrack>`, and loss codes that never leak a masked character."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lib.base.errors import UserError
from lib.base.files import ROOT, read_json
from lib.models.tokenizer import StepTokenizer, add_backtrack, build_tokenizer, save_tokenizer
from lib.profiles.settings import TraceSettings
from lib.tasks.countdown import problems
from lib.tasks.countdown.task import CountdownTask
from lib.tasks.task import BACKTRACK

TASK = CountdownTask(problems.Settings(4, 25, 10, 75, 99, 0.1))
TABLE = TASK.make_problems({"train": 60}, 1)
SETTINGS = TraceSettings("honest", 1.0, near_miss=0.3)
TRACES = pd.concat(
    [TASK.optimal_traces(TABLE), TASK.backtracking_traces(TABLE, 1, SETTINGS)],
    ignore_index=True,
)


@pytest.fixture(scope="module")
def digits():
    return build_tokenizer(TASK.pieces)


def lines(tokenizer) -> StepTokenizer:
    """As for a task whose steps are lines."""
    return StepTokenizer(tokenizer, "\n")


def byte_level(begin: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on our texts alone, so that its tokens straddle boundaries."""
    tokenizer = Tokenizer(models.BPE())
    # No split before merging: `target 62\n###Response:\n45-` may become one token.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"] if begin else ["</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text.removesuffix(BACKTRACK) for text in TRACES.text], trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", bos_token="<s>" if begin else None
    )
    add_backtrack(made)
    return made


@pytest.fixture(scope="module")
def pairs():
    return byte_level()


@settings(max_examples=30)
@given(st.lists(st.sampled_from([*TASK.pieces, BACKTRACK]), max_size=30).map("".join))
def test_round_trip(text):
    tokenizer = build_tokenizer(TASK.pieces)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


def test_pieces_are_single_tokens_and_the_longest_wins(digits):
    assert len(digits) == len(TASK.pieces) + 4
    tokens = digits.tokenize("###Question: numbers [12, 3]->target 15\n###Response:\n12+3=15\n")
    assert tokens == [
        "###Question: numbers [", "1", "2", ", ", "3", "]->target ", "1", "5", "\n###Response:\n",
        "1", "2", "+", "3", "=", "1", "5", "\n",
    ]  # fmt: skip


def test_other_text_is_unknown_one_for_each_character(digits):
    assert digits("ab1")["input_ids"][:2] == [digits.unk_token_id] * 2
    assert len(digits("٣²\0")["input_ids"]) == 3


@pytest.mark.parametrize("make", [lambda: build_tokenizer(TASK.pieces), byte_level])
def test_backtrack_is_one_special_token_also_when_saved(make, tmp_path):
    tokenizer = make()
    save_tokenizer(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = TRACES.text.iloc[-1]
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.tokenize("1\n<backtrack>")[-1] == BACKTRACK
    assert BACKTRACK in loaded.all_special_tokens and len(loaded) == len(tokenizer)
    assert (
        lines(loaded).backtrack_id == lines(tokenizer).backtrack_id == loaded(text)["input_ids"][-1]
    )
    assert loaded.decode(loaded(text)["input_ids"], skip_special_tokens=False).endswith(text)
    assert loaded.pad_token == "<pad>"
    assert loaded.eos_token_id != loaded.pad_token_id
    demand_names_of_every_version(tmp_path)
    again = tmp_path / "again"
    save_tokenizer(loaded, again)
    assert (again / "tokenizer_config.json").read_bytes() == (
        tmp_path / "tokenizer_config.json"
    ).read_bytes()


def demand_names_of_every_version(folder):
    """transformers 4 knows no `TokenizersBackend`, and wants a table of extra special tokens."""
    written = read_json(folder / "tokenizer_config.json")
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert written["additional_special_tokens"] == [BACKTRACK]
    assert not {"extra_special_tokens", "backend", "is_local"} & set(written)


def test_the_shipped_tokenizer_loads_in_every_version():
    folder = ROOT / "models" / "countdown-s"
    demand_names_of_every_version(folder)
    shipped, made = AutoTokenizer.from_pretrained(folder), build_tokenizer(TASK.pieces)
    text = TRACES.text.iloc[-1]
    assert shipped(text)["input_ids"] == made(text)["input_ids"]
    assert shipped.padding_side == "left" and shipped.pad_token == "<pad>"


def test_add_backtrack_keeps_a_good_padding_token_and_other_specials():
    tokenizer = byte_level()
    size = len(tokenizer)
    assert add_backtrack(tokenizer) == 0 and len(tokenizer) == size
    assert tokenizer.bos_token == "<s>" and tokenizer.pad_token == "<pad>"
    tokenizer.pad_token = tokenizer.eos_token
    add_backtrack(tokenizer)
    assert tokenizer.pad_token == "<pad>"


def test_a_tokenizer_without_backtrack_is_named():
    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(UserError, match="no token <backtrack>"):
        _ = lines(plain).backtrack_id


def test_prompts_begin_with_bos_where_there_is_one(digits, pairs):
    prompts = TASK.prompts(TABLE)[:3]
    assert [digits.decode(ids) for ids in lines(digits).encode_prompts(prompts)] == prompts
    for ids, prompt in zip(lines(pairs).encode_prompts(prompts), prompts, strict=True):
        assert ids[0] == pairs.bos_token_id and pairs.decode(ids[1:]) == prompt
    assert lines(digits).encode_prompts([]) == []


def test_codes_token_by_token_from_scratch(digits):
    """Here tokens never straddle a boundary: each has the code of all of its characters."""
    encoded = lines(digits).encode_traces(TRACES)
    assert len(encoded) == len(TRACES) == len(encoded.lengths())
    for index, (text, mask) in enumerate(zip(TRACES.text, TRACES["mask"], strict=True)):
        ids, codes = encoded[index]["input_ids"], encoded[index]["loss_codes"]
        at = 0
        for token, code in zip(digits.convert_ids_to_tokens(ids), codes, strict=True):
            if token == digits.eos_token:
                assert at == len(text) and code == 1 and text.endswith(TASK.goal)
                break
            assert text.startswith(token, at)
            assert set(mask[at : at + len(token)]) == {str(code)}
            at += len(token)
        assert at == len(text)
        assert (ids[-1] == digits.eos_token_id) != (ids[-1] == lines(digits).backtrack_id)


def test_codes_of_one_short_trace(digits):
    prompt = "###Question: numbers [3, 4]->target 12\n###Response:\n"
    mask = "0" * len(prompt) + "111111" + "0000" + "11" + "2" * len(BACKTRACK)
    trace = pd.DataFrame({"text": [prompt + "3+4=7\n7-2=5\n" + BACKTRACK], "mask": [mask]})
    codes = lines(digits).encode_traces(trace)[0]["loss_codes"].tolist()
    assert codes == [0] * 8 + [1] * 6 + [0] * 4 + [1] * 2 + [2]


@pytest.mark.parametrize("begin", [True, False])
def test_no_masked_character_leaks_through_a_straddling_token(begin):
    tokenizer = byte_level(begin)
    encoded, straddling = lines(tokenizer).encode_traces(TRACES), 0
    for index, (text, mask) in enumerate(zip(TRACES.text, TRACES["mask"], strict=True)):
        ids, codes = encoded[index]["input_ids"], encoded[index]["loss_codes"]
        if begin:
            assert (ids[0], codes[0]) == (tokenizer.bos_token_id, 0)
            ids, codes = ids[1:], codes[1:]
        if ids[-1] == tokenizer.eos_token_id:
            assert codes[-1] == 1 and text.endswith(TASK.goal)
            ids, codes = ids[:-1], codes[:-1]
        at = 0
        for token, code in zip(ids, codes, strict=True):
            piece = tokenizer.decode([token])
            assert text.startswith(piece, at)
            covered = mask[at : at + len(piece)]
            assert code == int(min(covered))
            straddling += len(set(covered)) > 1
            at += len(piece)
        assert at == len(text)
    assert straddling > 30  # within a step: none reaches past its end


def test_settings_left_in_a_tokenizer_change_nothing(pairs):
    """Padding and truncation are state of a fast tokenizer: an earlier call can leave them on."""
    expected = lines(pairs).encode_traces(TRACES)
    pairs(["1", "1+1=2"], padding=True, truncation=True, max_length=4)
    assert lines(pairs).encode_traces(TRACES).ids.tolist() == expected.ids.tolist()


def test_bad_traces_are_named(digits):
    bad = TRACES.iloc[:3].copy()
    bad.loc[1, "mask"] += "0"
    with pytest.raises(UserError, match=r"trace 1: \d+ mask characters for \d+ of text"):
        lines(digits).encode_traces(bad)
    with pytest.raises(UserError, match=r"trace 0: \d+ tokens, more than 10"):
        lines(digits).encode_traces(TRACES, max_tokens=10)
    for text, mask in (("", ""), ("1+1=2", "0000٣"), ("1+1=2", "00003")):
        with pytest.raises(UserError, match="trace 0: no text, or a mask of others than 0, 1"):
            lines(digits).encode_traces(pd.DataFrame({"text": [text], "mask": [mask]}))
    assert len(lines(digits).encode_traces(TRACES.iloc[:0])) == 0


def test_the_longest_response_fits(digits):
    longest = max(len(digits(text.split("###Response:\n")[1])["input_ids"]) for text in TRACES.text)
    assert longest < TASK.max_response_tokens
