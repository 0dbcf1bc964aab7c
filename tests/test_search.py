"""Search rules on a scripted sampler (exact trees), frequencies against enumeration, and files."""

import itertools
import json
import math
from collections import Counter

import pytest
import torch

from lib.base.errors import UserError
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.rollout import Sample
from lib.search.sampler import CacheSampler
from lib.search.search import iter_search, search
from lib.search.search_file import search_to_file
from lib.search.tree import SearchTree, TreeFile, at_depth, read_trees

TOKENIZER = build_tokenizer([*"abcdeQ", "\n"])
STEPS = StepTokenizer(TOKENIZER, "\n")
PAD, EOS, BACKTRACK = (
    TOKENIZER.convert_tokens_to_ids(t) for t in ("<pad>", "<eos>", "<backtrack>")
)
END = TOKENIZER.convert_tokens_to_ids("\n")
QUESTION = "Q\n"


def sample(text: str, count: int = 1, logprob: float = -0.5, p_backtrack: float = 0.25) -> Sample:
    """A sample as the sampler would give it; each token has the same log-probability."""
    ids = tuple(STEPS.encode_prompts([text])[0])
    ends = tuple(i for i, token in enumerate(ids) if token == END)
    stop = {EOS: "goal", BACKTRACK: "backtrack"}.get(ids[-1], "limit")
    return Sample(
        ids, (logprob,) * len(ids), ends, (p_backtrack,) * len(ends), stop, count, p_backtrack / 2
    )


class Script:
    """Gives, for each state's text, the samples that were written down for it; notes the calls."""

    def __init__(self, samples: dict[str, list[Sample]]):
        self.samples, self.calls = samples, []

    def sample(self, prefixes, counts, temperature, seed):
        texts = [TOKENIZER.decode(list(prefix)) for prefix in prefixes]
        self.calls.append((list(zip(texts, counts, strict=True)), temperature, seed))
        return [
            self.samples.get(text, [sample("e", count)])
            for text, count in zip(texts, counts, strict=True)
        ]


def run(samples, breadth, depth, **others) -> tuple[SearchTree, list]:
    script = Script(samples)
    spec = SearchSpec(breadth, depth, temperature=0.7, seed=5, **others)
    (tree,) = search(script, STEPS, [QUESTION], spec)
    return tree, [call[0] for call in script.calls]


SAMPLES = {
    "Q\n": [
        sample("a\nb\n<backtrack>", 3),  # back to "Q a"
        sample("a\nb\nc<eos>", 1),
        sample("a\nc\nd\n<backtrack>", 2),  # back to "Q a c"
        sample("b\n<backtrack>", 2),  # back to the question: was expanded
        sample("<backtrack>", 1),  # said at the question: nothing to roll back
    ],
    "Q\na\n": [sample("b\n<backtrack>", 1), sample("e\nc<eos>", 1), sample("d", 1)],
    "Q\na\nc\n": [sample("e\n<backtrack>", 2, -0.2), sample("e\na\n<backtrack>", 1)],
    "Q\na\nc\ne\n": [sample("b<eos>", 3)],
}


def test_the_exact_tree():
    tree, calls = run(SAMPLES, breadth=9, depth=2)
    assert calls == [
        [("Q\n", 9)],
        [("Q\na\n", 3), ("Q\na\nc\n", 3)],  # sqrt(9) samples each; six visits before two
        [("Q\na\nc\ne\n", 3)],
    ]
    shown = [(n.parent, n.kind, n.level, n.text, n.visits) for n in tree.nodes]
    assert shown == [
        (None, "root", 0, "", 9),
        (0, "backtrack", 0, "<backtrack>", 1),
        (0, "step", 0, "a", 6),
        (2, "step", 0, "b", 5),  # 3 + 1, and one more from the roll-back
        (3, "backtrack", 0, "<backtrack>", 4),
        (3, "goal", 0, "c", 1),
        (2, "step", 0, "c", 2),
        (6, "step", 0, "d", 2),
        (7, "backtrack", 0, "<backtrack>", 2),
        (0, "step", 0, "b", 2),
        (9, "backtrack", 0, "<backtrack>", 2),
        (2, "limit", 1, "d", 1),
        (2, "step", 1, "e", 1),
        (12, "goal", 1, "c", 1),
        (6, "step", 1, "e", 3),
        (14, "backtrack", 1, "<backtrack>", 2),
        (14, "step", 1, "a", 1),
        (16, "backtrack", 1, "<backtrack>", 1),
        (14, "goal", 2, "b", 3),
    ]
    assert [n.id for n in tree.nodes] == list(range(len(tree.nodes)))
    assert tree.expanded == ((0, 0), (2, 1), (6, 1), (14, 2))
    assert tree.response(18) == "a\nc\ne\nb"
    assert [n.id for n in tree.path(18)] == [0, 2, 6, 14, 18]
    assert tree.response(11) == "a\nd" and tree.response(10) == "b\n<backtrack>"
    assert tree.nodes[0].p_backtrack == 0.125 and tree.nodes[2].p_backtrack == 0.25
    assert tree.nodes[18].tokens[-1] == EOS and tree.nodes[18].logprobs == (-0.5, -0.5)
    assert {n.id for n in tree.leaves()} == {1, 4, 5, 8, 10, 11, 13, 15, 17, 18}
    assert (
        tree.tokens_sampled == (3 * 5 + 6 + 2 * 7 + 2 * 3 + 1) + (3 + 4 + 1) + (2 * 3 + 5) + 3 * 2
    )


#: As many as are drawn with N = 9 in each state.
NINE_EACH = SAMPLES | {
    "Q\na\n": [
        sample("b\n<backtrack>", 3),
        sample("e\nc<eos>", 4),
        sample("e\nb\n<backtrack>", 1),
        sample("d", 1),
    ],
    "Q\na\nc\n": [sample("e\n<backtrack>", 6, -0.2), sample("e\na\n<backtrack>", 3)],
    "Q\na\nc\ne\n": [sample("b<eos>", 8), sample("d\ne", 1)],
    "Q\na\ne\n": [sample("b<eos>", 9)],
}


def test_n_samples_of_each_rolled_back_state():
    """The paper's way: states are chosen as ever, at most sqrt(N) of them."""
    tree, calls = run(NINE_EACH, breadth=9, depth=2, per_state="breadth")
    assert calls == [
        [("Q\n", 9)],
        [("Q\na\n", 9), ("Q\na\nc\n", 9)],
        [("Q\na\nc\ne\n", 9), ("Q\na\ne\n", 9)],  # nine visits before five
    ]
    assert tree.expanded == ((0, 0), (2, 1), (6, 1), (16, 2), (12, 2))
    shown = {(tree.response(n.id), n.kind): (n.level, n.visits) for n in tree.nodes[11:]}
    assert shown == {
        ("a\nd", "limit"): (1, 1),
        ("a\ne\n", "step"): (1, 5),
        ("a\ne\nb\n", "step"): (1, 1),
        ("a\ne\nb\n<backtrack>", "backtrack"): (1, 1),
        ("a\ne\nb", "goal"): (2, 9),
        ("a\ne\nc", "goal"): (1, 4),
        ("a\nc\ne\n", "step"): (1, 9),
        ("a\nc\ne\n<backtrack>", "backtrack"): (1, 6),
        ("a\nc\ne\na\n", "step"): (1, 3),
        ("a\nc\ne\na\n<backtrack>", "backtrack"): (1, 3),
        ("a\nc\ne\nb", "goal"): (2, 8),
        ("a\nc\ne\nd\n", "step"): (2, 1),
        ("a\nc\ne\nd\ne", "limit"): (2, 1),
    }
    assert sum(leaf.visits for leaf in tree.leaves()) == 5 * 9
    assert tree.tokens_by_level == (16, 17, 7) and tree.tokens_generated == 40
    assert tree.per_state == "breadth" and SearchTree.from_json(tree.to_json()) == tree
    first, _ = run(NINE_EACH, breadth=9, depth=1, per_state="breadth")
    assert at_depth(tree, 1).expanded == first.expanded


def test_n_beams_of_each_rolled_back_state():
    class Beams(Script):
        expansions = ("sample", "beam_sample")

        def sample(self, prefixes, counts, temperature, seed, expansion):
            assert expansion == "beam_sample"
            return super().sample(prefixes, counts, temperature, seed)

    script = Beams({})
    found = [sample("a\na\n<backtrack>"), sample("b\na\n<backtrack>"), sample("c\nb<eos>")]
    script.samples = {"Q\n": found}
    for per_state, count in (("sqrt", 3), ("breadth", 9)):
        spec = SearchSpec(9, 1, expansion="beam_sample", per_state=per_state)
        (tree,) = search(script, STEPS, [QUESTION], spec)
        assert script.calls[-1][0] == [("Q\na\n", count), ("Q\nb\n", count)]
        assert tree.per_state == per_state


@pytest.mark.parametrize("expansion", ["sample", "beam_sample", "stochastic_beam"])
def test_n_continuations_of_a_real_sampler(expansion):
    spec = SearchSpec(16, 2, 1.0, 1, expansion, "breadth")
    trees = search(chain_sampler(), STEPS, [QUESTION, "Q\na\n"] * 5, spec)
    assert any(len(tree.expanded) > 2 for tree in trees)
    for tree in trees:
        drawn = sum(leaf.visits for leaf in tree.leaves())
        most = 16 * len(tree.expanded)
        # Beams end where there is no other sequence: they are never more than asked for.
        assert drawn == most if expansion == "sample" else drawn <= most
        assert max(Counter(level for _, level in tree.expanded).values()) <= 4


def test_what_is_usual_is_not_told(tmp_path):
    """Files of before there were other ways stay as they were, and are read."""
    usual, _ = run(SAMPLES, 9, 2)
    record = json.loads(usual.to_json())
    assert list(record) == [
        "schema", "problem_id", "prompt", "breadth", "depth", "temperature", "seed", "expanded",
        "tokens_generated", "tokens_sampled", "step_end", "nodes",
    ]  # fmt: skip
    other, _ = run(NINE_EACH, 9, 2, per_state="breadth")
    record = json.loads(other.to_json())
    assert list(record)[-4:] == ["step_end", "per_state", "tokens_by_level", "nodes"]
    for spec, told in (
        (SearchSpec(4, 1), []),
        (SearchSpec(4, 1, per_state="breadth"), ["per_state"]),
    ):
        path = search_to_file(tmp_path / f"{len(told)}.jsonl", Script({}), STEPS, ["Q\n"], spec)
        header = json.loads(path.read_text().splitlines()[0])["search"]
        known = ["breadth", "depth", "temperature", "seed", *told]
        assert list(header) == [*known, "chunk_size", "problems", "made_of"]


def test_tokens_generated_count_shared_prefixes_once():
    tree, _ = run({"Q\n": [sample("a\nb\n<backtrack>", 3), sample("a\nc<eos>", 1)]}, 4, 0)
    assert tree.tokens_generated == 5 + 2  # "a", end, "b", end, <backtrack>; "c", <eos>
    assert tree.tokens_sampled == 3 * 5 + 4
    tree, _ = run(SAMPLES, 9, 1)
    distinct = 0
    for state, _ in tree.expanded:
        text = "Q\n" + tree.response(state)
        prefixes = {s.tokens[:i] for s in SAMPLES[text] for i in range(1, len(s.tokens) + 1)}
        distinct += len(prefixes)
    assert tree.tokens_generated == distinct


@pytest.mark.parametrize("breadth", [1, 2, 3, 4, 8, 9, 15, 32])
def test_at_most_sqrt_n_states_by_visits_then_logprob(breadth):
    found = [
        sample("a\na\n<backtrack>", 2, -0.5),
        sample("b\na\n<backtrack>", 7),
        sample("c\na\n<backtrack>", 2, -0.4),
        sample("d\na\n<backtrack>", 1, -0.1),
        sample("e\na\n<backtrack>", 1, -0.2),
    ]
    _, calls = run({"Q\n": found}, breadth, 1)
    few = max(1, math.isqrt(breadth))
    states = ["Q\nb\n", "Q\nc\n", "Q\na\n", "Q\nd\n", "Q\ne\n"]
    assert calls[1] == [(state, few) for state in states[:few]]


def test_more_visits_come_before_more_probable():
    found = [
        sample("a\na\n<backtrack>", 1, -0.1),
        sample("a\nb<eos>", 1, -0.1),
        sample("b\na\n<backtrack>", 1, -3.0),
        sample("b\nb<eos>", 2, -3.0),
        sample("c\na\n<backtrack>", 1, -2.0),
        sample("c\nb<eos>", 2, -2.0),
    ]
    _, calls = run({"Q\n": found}, 9, 1)
    assert [state for state, _ in calls[1]] == ["Q\nc\n", "Q\nb\n", "Q\na\n"]


def test_a_backtrack_inside_a_step_takes_that_step_back():
    _, calls = run({"Q\n": [sample("a\nb<backtrack>", 4)]}, 4, 1)
    assert calls[1] == [("Q\na\n", 2)]
    _, calls = run({"Q\n": [sample("b<backtrack>", 4)]}, 4, 1)
    assert calls[1] == []


def test_states_left_over_are_expanded_at_a_later_level():
    found = [sample("a\na\n<backtrack>", 2), sample("b\na\n<backtrack>", 1)]
    _, calls = run({"Q\n": found}, 3, 3)
    assert [call for call in calls[1:]] == [[("Q\na\n", 1)], [("Q\nb\n", 1)], []]


def test_always_backtrack_and_never_backtrack():
    always, calls = run({"Q\n": [sample("<backtrack>", 4)]}, 4, 3)
    assert calls[1:] == [[], [], []] and len(always.nodes) == 2
    never, calls = run({"Q\n": [sample("a\nb<eos>", 4)]}, 4, 3)
    assert calls[1:] == [[], [], []] and never.tokens_generated == 4


def test_the_token_limit_right_after_a_step():
    tree, _ = run({"Q\n": [sample("a\n", 1), sample("a\nb", 1)]}, 2, 1)
    assert [(n.kind, n.text, n.tokens) for n in tree.leaves()] == [
        ("limit", "", ()),
        ("limit", "b", tree.nodes[3].tokens),
    ]
    assert tree.response(2) == "a\n"


def test_no_problems_and_impossible_settings():
    assert search(Script({}), STEPS, [], SearchSpec(4, 1)) == []
    for breadth, depth, size in ((0, 1, 1), (1, -1, 1), (1, 1, 0)):
        with pytest.raises(UserError, match="breadth"):
            search(Script({}), STEPS, ["Q\n"], SearchSpec(breadth, depth, chunk=size))


def test_chunks_have_streams_of_their_own_and_do_not_depend_on_who_does_them():
    script = Script({})
    questions = ["a\n", "b\n", "c\n", "d\n", "e\n"]
    done = []
    spec = SearchSpec(4, 0, seed=5, chunk=2)
    trees = search(script, STEPS, questions, spec, on_progress=done.append)
    assert [t.problem_id for t in trees] == [0, 1, 2, 3, 4] and done == [2, 2, 1]
    assert [[state for state, _ in call[0]] for call in script.calls] == [
        ["a\n", "b\n"],
        ["c\n", "d\n"],
        ["e\n"],
    ]
    assert len({call[2] for call in script.calls}) == 3
    other = Script({})
    for chunks in ([2, 0], [1]):
        for _ in iter_search(other, STEPS, questions, spec, chunks):
            pass
    assert sorted(other.calls) == sorted(script.calls)


# A real sampler on a model whose next token depends on the last one alone.
A, B = (TOKENIZER.convert_tokens_to_ids(letter) for letter in "ab")
NEXT = {
    END: {A: 0.5, B: 0.1, BACKTRACK: 0.3, EOS: 0.1},
    A: {END: 0.7, B: 0.2, EOS: 0.1},
    B: {END: 0.6, BACKTRACK: 0.4},
}
LENGTH = 4


class ChainModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        table = torch.zeros(len(TOKENIZER), len(TOKENIZER))
        for last, row in NEXT.items():
            for token, p in row.items():
                table[last, token] = p
        self.table = torch.nn.Parameter(table.log())

    def forward(self, input_ids, **_):
        return type("Output", (), {"logits": self.table[input_ids[:, -1:]]})


def chain_sampler() -> CacheSampler:
    return CacheSampler(ChainModel(), EOS, BACKTRACK, [END], LENGTH, PAD)


def continuations(last: int, length: int = LENGTH) -> dict[tuple[int, ...], float]:
    result = {}
    for token, p in NEXT[last].items():
        if token in (EOS, BACKTRACK) or length == 1:
            result[(token,)] = p
        else:
            for rest, q in continuations(token, length - 1).items():
                result[(token, *rest)] = p * q
    return result


def rolled_back(state: tuple[int, ...], tokens: tuple[int, ...]) -> tuple[int, ...]:
    """Token ids after the question, with the last step taken back; by hand, not by tree."""
    *steps, rest = _steps(state + tokens)
    return sum(steps[: -1 if len(rest) == 1 else None], ())


def _steps(tokens):
    steps = [()]
    for token in tokens:
        steps[-1] += (token,)
        if token == END:
            steps.append(())
    return steps


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_frequencies_against_enumeration(depth):
    """With N = 1 every level expands one state once: leaf frequencies can be enumerated."""
    exact: Counter = Counter()

    def enumerate_from(level, state, seen, waiting, leaves, probability):
        for tokens, p in continuations(END).items():
            found = leaves | {state + tokens}
            left = waiting
            if tokens[-1] == BACKTRACK:
                left = [*waiting, rolled_back(state, tokens)]
            left = [s for s in left if s not in seen]
            if level == depth or not left:
                exact[frozenset(found)] += probability * p
            else:
                assert len(set(left)) == 1  # one `<backtrack>` at most since the last expansion
                following = left[0]
                enumerate_from(level + 1, following, seen | {following}, [], found, probability * p)

    enumerate_from(0, (), {()}, [], frozenset(), 1.0)
    assert sum(exact.values()) == pytest.approx(1)

    runs = 6000
    trees = search(
        chain_sampler(), STEPS, [QUESTION] * runs, SearchSpec(1, depth, 1.0, 7, chunk=2000)
    )
    drawn = Counter(
        frozenset(sum((node.tokens for node in tree.path(leaf.id)), ()) for leaf in tree.leaves())
        for tree in trees
    )
    assert drawn.keys() <= exact.keys()
    for leaves, p in exact.items():
        assert abs(drawn[leaves] - runs * p) <= 4.5 * math.sqrt(runs * p * (1 - p)) + 1


def test_what_is_true_of_every_tree():
    trees = search(chain_sampler(), STEPS, [QUESTION, "Q\na\n"] * 20, SearchSpec(16, 3, 1.0, 1))
    kinds = Counter()
    for tree in trees:
        drawn = Counter({0: 16})
        for state, level in tree.expanded[1:]:
            drawn[state] = 4
            assert tree.nodes[state].kind == "step" and 1 <= level <= 3
            children = tree.children(state)
            assert (
                any(  # the state was one step before a `<backtrack>`
                    leaf.kind == "backtrack"
                    and (leaf.parent if len(leaf.tokens) > 1 else tree.nodes[leaf.parent].parent)
                    == state
                    for leaf in tree.leaves()
                )
                and children
            )
        assert len(drawn) == len(tree.expanded)
        assert max(Counter(level for _, level in tree.expanded).values()) <= 4
        for node in tree.nodes:
            kinds[node.kind] += 1
            if node.id:
                assert node.parent < node.id
                assert node.level >= tree.nodes[node.parent].level
            below = sum(child.visits for child in tree.children(node.id))
            if node.kind == "step":
                assert below == node.visits + drawn[node.id]
            else:
                assert below == (16 if node.kind == "root" else 0)
        assert len({(n.parent, n.tokens) for n in tree.nodes}) == len(tree.nodes)
    assert set(kinds) == {"root", "step", "goal", "backtrack", "limit"}


def write_trees(path, trees):
    path.write_text("".join(tree.to_json() + "\n" for tree in trees))


def test_trees_survive_json(tmp_path):
    trees = search(chain_sampler(), STEPS, [QUESTION] * 3, SearchSpec(4, 1, 1.0, 1))
    assert [SearchTree.from_json(tree.to_json()) for tree in trees] == trees
    write_trees(tmp_path / "trees.jsonl", trees)
    assert list(read_trees(tmp_path / "trees.jsonl")) == trees


@pytest.mark.parametrize("line", ["{", "[]", '{"schema": 99}', '{"schema": 1}'])
def test_a_broken_line_is_named(tmp_path, line):
    good = search(chain_sampler(), STEPS, [QUESTION], SearchSpec(4, 1, 1.0, 1))[0].to_json()
    (tmp_path / "trees.jsonl").write_text(good + "\n" + line + "\n")
    with pytest.raises(UserError, match=r"trees\.jsonl, line 2"):
        list(read_trees(tmp_path / "trees.jsonl"))


@pytest.mark.parametrize(
    ("column", "value"),
    [("parent", 1), ("parent", 2), ("parent", -1), ("parent", None), ("parent", "0"),
     ("parent", True), ("text", None), ("text", 5), ("kind", "leaf"), ("kind", [])],
)  # fmt: skip
def test_trees_that_cannot_be_walked_are_refused(tmp_path, column, value):
    """A node that is its own ancestor would never be left."""
    made = search(chain_sampler(), STEPS, [QUESTION], SearchSpec(4, 1, 1.0, 1))[0]
    record = json.loads(made.to_json())
    record["nodes"][column][1] = value
    (tmp_path / "trees.jsonl").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"trees\.jsonl, line 1: not a search tree \(node 1"):
        list(read_trees(tmp_path / "trees.jsonl"))


@pytest.mark.parametrize("column", ["step_end", "prompt", "expansion"])
def test_a_tree_s_texts_are_texts(tmp_path, column):
    made = search(chain_sampler(), STEPS, [QUESTION], SearchSpec(4, 1, 1.0, 1))[0]
    (tmp_path / "trees.jsonl").write_text(json.dumps(json.loads(made.to_json()) | {column: True}))
    with pytest.raises(UserError, match=rf"line 1: not a search tree \({column} is no text"):
        list(read_trees(tmp_path / "trees.jsonl"))


@pytest.mark.parametrize("line", [b"\xff", b"[" * 200_000, b"\0", b'{"schema": 1' + b"0" * 5_000])
def test_bytes_that_are_no_tree_are_named(tmp_path, line):
    (tmp_path / "trees.jsonl").write_bytes(line + b"\n")
    with pytest.raises(UserError, match=r"trees\.jsonl, line 1"):
        list(read_trees(tmp_path / "trees.jsonl"))
    with pytest.raises(UserError, match="none: no such file"):
        list(read_trees(tmp_path / "none"))


def test_a_file_of_trees_is_read_anew_each_time(tmp_path):
    trees = search(chain_sampler(), STEPS, [QUESTION] * 3, SearchSpec(4, 1, 1.0, 1))
    write_trees(tmp_path / "trees.jsonl", trees)
    text = (tmp_path / "trees.jsonl").read_text()
    (tmp_path / "trees.jsonl").write_text('{"search":{}}\n' + text)
    found = TreeFile(tmp_path / "trees.jsonl")
    assert list(found) == list(found) == trees and len(found) == 3
    assert found[0] == trees[0] and found[2] == trees[2]
    assert list(found[:2]) == trees[:2] and len(found[:2]) == 2 == len(found[:2][:9])
    assert list(found[:0]) == [] and len(found[:9]) == 3
    for place in (3, -1):
        with pytest.raises((IndexError, ValueError)):
            found[place]
    for cut in (slice(1, 2), slice(None, None, 2), slice(None, -1), slice(None)):
        with pytest.raises(ValueError, match=r"cut as \[:count\]"):
            found[cut]


SPEC = SearchSpec(breadth=4, depth=1, temperature=1.0, seed=3, chunk=2)


def test_a_killed_search_goes_on_at_the_chunk_boundary(tmp_path):
    questions = [QUESTION] * 7
    whole = search_to_file(tmp_path / "a.jsonl", chain_sampler(), STEPS, questions, SPEC)
    expected = whole.read_bytes()
    trees = list(read_trees(whole))
    assert trees == search(chain_sampler(), STEPS, questions, SPEC)
    lines = expected.splitlines(keepends=True)
    sizes = list(itertools.accumulate(map(len, lines)))
    for cut in (0, 5, sizes[0], sizes[1], sizes[2] + 9, sizes[4], sizes[6] - 1, sizes[7]):
        path = tmp_path / f"cut{cut}.jsonl"
        partial = tmp_path / f"cut{cut}.jsonl.partial"
        partial.write_bytes(expected[:cut])
        done = []
        search_to_file(path, chain_sampler(), STEPS, questions, SPEC, on_progress=done.append)
        assert path.read_bytes() == expected and not partial.exists() and sum(done) == 7
        kept = max(0, sum(size <= cut for size in sizes) - 1)
        assert done[0] == (7 if kept == 7 else kept // 2 * 2)


def test_a_finished_search_is_not_done_again_unless_something_changed(tmp_path):
    path = tmp_path / "a.jsonl"
    search_to_file(path, Script({}), STEPS, ["Q\n"], SPEC)
    again = Script({})
    search_to_file(path, again, STEPS, ["Q\n"], SPEC)
    assert again.calls == []
    for changed in ((SPEC.at(seed=4), ""), (SPEC, "another model")):
        script = Script({})
        search_to_file(path, script, STEPS, ["Q\n"], *changed)
        assert script.calls
    assert json.loads(path.read_text().splitlines()[0])["search"]["made_of"] == "another model"


def test_a_file_of_no_problems(tmp_path):
    path = search_to_file(tmp_path / "none.jsonl", Script({}), STEPS, [], SPEC)
    assert list(read_trees(path)) == []


def test_an_interrupted_search_leaves_whole_chunks_and_no_result(tmp_path):
    class Interrupted(Script):
        def sample(self, *arguments):
            if len(self.calls) == 3:
                raise KeyboardInterrupt
            return super().sample(*arguments)

    path = tmp_path / "a.jsonl"
    with pytest.raises(KeyboardInterrupt):
        search_to_file(path, Interrupted({}), STEPS, ["Q\n"] * 5, SPEC)
    assert not path.exists()
    script = Script({})
    search_to_file(path, script, STEPS, ["Q\n"] * 5, SPEC)
    assert len(list(read_trees(path))) == 5 and len(script.calls) == 4  # chunks 1 and 2
