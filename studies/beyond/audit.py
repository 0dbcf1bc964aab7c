"""The audit: what each point costs or gains in which the published code differs from the paper.

Takes an experiment; gives rows (artifact `audit`): one a switch and split, with the accuracy gained
or lost against the same answers without it, and a paired 95% interval. Each switch lives beside the
code that it alters, off by default: `lib.search.variants`, `lib.search.search.roll_backs`,
`lib.profiles.recipe`, `lib.search.selection.summed_mean_logprob`, the task's `check_published`.
Self-improvement on the evaluated problems is in studies/paper/self_improvement.py; what the rows
say is in studies/beyond/audit_report.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lib.base.checked import Count, Share, TwoOrMore, checked
from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.evaluation.scoring import accuracy_row
from lib.evaluation.statistics import paired_difference
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.models.tokenizer import StepTokenizer
from lib.search import selection
from lib.search.search import roll_backs
from lib.search.selection import SELECTION_RULES, summed_mean_logprob
from lib.search.tree import SearchTree
from lib.search.variants import PublishedSampling
from studies.beyond.audit_report import audit_remark, audit_text, points_by_switch
from studies.measurements import SAMPLE, Searched, kept_table
from studies.paper import tables_3_and_4
from studies.study import Figure, Study

MODEL = "S"
SUMMED = "summed_mean_logprob"
PUBLISHED_TOKENS = 50
#: Tokens of the longest of the paper's problems (section 4.1) with its solution, in pieces of
#: Llama's kind, the two special tokens at its ends among them; tests/test_audit.py counts them.
PAPER_LONGEST = 50
MAIN, SMALL = "backtracking", "small"  # which checkpoint is the reference


@checked
class AuditSettings:
    """What the published code does otherwise, switched on alone and together."""

    problems: Count  # of each test split
    breadth: Count
    depth: Count
    examples: TwoOrMore  # of the two branches that differ in the loss on padding alone
    hard_cut: Share  # a second, harder cut: this share of the longest problem's tokens


@dataclass(frozen=True)
class Switches:
    """Everything that can be switched; all off is this project's way."""

    beam_sampling: bool = False
    total_tokens: int = 0
    depth_from_one: bool = False
    summed_selection: bool = False
    published_checker: bool = False
    padding_loss: bool = False

    @property
    def sampling(self) -> PublishedSampling | None:
        """What the sampler does otherwise; None where it does not."""
        found = PublishedSampling(self.beam_sampling, self.total_tokens)
        return None if found == PublishedSampling() else found


def our_longest(experiment: Experiment) -> int:
    """Tokens of the longest validation problem with its solution."""
    tokenizer = experiment.tokenizer(experiment.checkpoint(MODEL, "backtracking"))
    traces = experiment.task.optimal_traces(experiment.problems("validation"))
    return int(tokenizer.encode_traces(traces).lengths().max())


def cuts(experiment: Experiment) -> tuple[int, int]:
    """Tokens of the published cut, as a share of the longest problem's, and of a harder one."""
    longest = our_longest(experiment)
    share = min(1.0, PUBLISHED_TOKENS / PAPER_LONGEST)
    hard = experiment.profile.settings(AuditSettings).hard_cut
    return round(share * longest), round(hard * longest)


def variants(cut: int, hard_cut: int, published: bool = True) -> dict[str, tuple[str, Switches]]:
    """Each row's name -> which checkpoint is its reference, and what is switched on.

    published: whether the task has the published checker.
    """
    together = Switches(
        beam_sampling=True,
        total_tokens=cut,
        depth_from_one=True,
        summed_selection=True,
        published_checker=published,
    )
    checker = {"published_checker": (MAIN, Switches(published_checker=True))}
    return {
        "depth_from_one": (MAIN, Switches(depth_from_one=True)),
        "beam_sampling": (MAIN, Switches(beam_sampling=True)),
        "cut": (MAIN, Switches(total_tokens=cut)),
        "hard_cut": (MAIN, Switches(total_tokens=hard_cut)),
        "summed_selection": (MAIN, Switches(summed_selection=True)),
        **(checker if published else {}),
        "together_at_inference": (MAIN, together),
        "padding_loss": (SMALL, Switches(padding_loss=True)),
        "together": (SMALL, replace(together, padding_loss=True)),
    }


def searched(experiment: Experiment, reference: str, switches: Switches, split: str) -> Searched:
    """The search with these switches, by the tables' own model or one of two small branches."""
    settings = experiment.profile.settings(AuditSettings)
    if reference == MAIN:
        checkpoint = experiment.checkpoint(MODEL, "backtracking")
    else:
        padding = switches.padding_loss
        checkpoint = tables_3_and_4.ratio_branch(experiment, MODEL, 1.0, settings.examples, padding)
    problems = experiment.problems(split).iloc[: settings.problems]
    depth = roll_backs(settings.depth, switches.depth_from_one)
    spec = experiment.spec(settings.breadth, depth, expansion=SAMPLE, per_state="sqrt")
    made = experiment.search(checkpoint, problems, spec, switches.sampling)
    return Searched(made, problems, split, spec)


def switch_searches(
    experiment: Experiment,
) -> Iterator[tuple[str, str, Switches, Searched, Searched]]:
    """Each variant's name, reference and switches, and a split's search with and without them."""
    lengths = experiment.known(lambda: cuts(experiment), expected=(1, 2))  # any two lengths
    published = experiment.task.check_published is not None
    for name, (reference, switches) in variants(*lengths, published).items():
        for split in TEST_SPLITS:
            pair = [searched(experiment, reference, s, split) for s in (switches, Switches())]
            yield name, reference, switches, *pair


def requests(experiment: Experiment) -> Iterator[object]:
    """Every search with and without a switch."""
    for *_, switched, base in switch_searches(experiment):
        yield from (switched, base)


def answers(experiment: Experiment, found: Searched, switches: Switches) -> pd.DataFrame:
    """A search's answers as these switches choose and check them: columns correct and tokens."""
    usual = experiment.profile.search.selection
    rules = {usual: SELECTION_RULES[usual], SUMMED: summed_mean_logprob}

    def measure() -> pd.DataFrame:
        trees = experiment.read_trees(found.made)
        return scoring.search_outcomes(trees, found.problems, experiment.task, rules)

    inputs, name = {"search": found.made.key, "rules": list(rules)}, found.made.name
    made_by = [scoring, selection, experiment.task]
    rows = kept_table(experiment, f"outcomes/audit-{name}", inputs, measure, made_by)
    rows = rows[rows["selection"] == (SUMMED if switches.summed_selection else usual)]
    column = "correct_published" if switches.published_checker else "correct"
    return rows[[column, "tokens"]].set_axis(["correct", "tokens"], axis=1).reset_index()


def compared(
    switched: Sequence[bool], base: Sequence[bool], name: str, **columns: object
) -> dict[str, object]:
    """A row: the accuracy with the switch, and what it gained against the base (`difference`)."""
    gained, low, high = paired_difference(switched, base)
    row = accuracy_row(switched, artifact="audit", model=MODEL, switch=name, **columns)
    row |= {"base": float(np.mean(base)), "difference": gained}
    return row | {"difference_low": low, "difference_high": high}


def search_columns(experiment: Experiment) -> dict[str, object]:
    """What every row of a search has."""
    settings = experiment.profile.settings(AuditSettings)
    columns = {"method": "self_backtracking", "seed": experiment.seed}
    return columns | {"N": settings.breadth, "b": settings.depth}


def search_switches(experiment: Experiment) -> list[dict]:
    """Rows of every switch of training and search; split None is both splits together."""
    search, longest, found = experiment.profile.search, our_longest(experiment), {}
    for name, reference, switches, switched, base in switch_searches(experiment):
        pair = answers(experiment, switched, switches), answers(experiment, base, Switches())
        found.setdefault((name, reference, switches), {})[switched.split] = pair
    rows = []
    for (name, reference, switches), pairs in found.items():
        pairs[None] = tuple(pd.concat(parts) for parts in zip(*pairs.values(), strict=True))
        columns = search_columns(experiment) | {
            "temperature": search.temperature,
            "reference": reference,
            "selection": SUMMED if switches.summed_selection else search.selection,
            "checker": "published" if switches.published_checker else "strict",
        }
        if switches.total_tokens:
            columns |= {"total_tokens": switches.total_tokens, "longest_tokens": longest}
        for split, (switched, base) in pairs.items():
            named = {"split": split, "tokens_per_problem": float(switched["tokens"].mean())}
            rows.append(compared(switched["correct"], base["correct"], name, **columns, **named))
    return rows


def same_ids(trees: Iterable[SearchTree], tokenizer: StepTokenizer) -> tuple[int, int]:
    """Of all states of the trees, how many have the same ids when their text is tokenized again."""
    texts, ids = [], []
    for tree in trees:
        [prompt] = tokenizer.encode_prompts([tree.prompt])
        for node in tree.nodes:
            if node.kind == "step":
                path = [token for part in tree.path(node.id) for token in part.tokens]
                texts.append(tree.prompt + tree.response(node.id))
                ids.append([*prompt, *path])
    again = tokenizer.encode_prompts(texts)
    return sum(a == b for a, b in zip(ids, again, strict=True)), len(ids)


def text_roll_back(experiment: Experiment) -> list[dict]:
    """Rows of a roll-back through text, where it changes no state; none where it would."""
    found = [searched(experiment, MAIN, Switches(), split) for split in TEST_SPLITS]
    tokenizer = experiment.tokenizer(experiment.checkpoint(MODEL, "backtracking"))
    counted = [same_ids(experiment.read_trees(each.made), tokenizer) for each in found]
    same, states = (sum(part) for part in zip(*counted, strict=True))
    if same != states:
        return []
    right = {each.split: answers(experiment, each, Switches())["correct"] for each in found}
    right[None] = pd.concat(list(right.values()))
    columns = search_columns(experiment) | {"reference": MAIN, "checker": "strict"}
    columns |= {"selection": experiment.profile.search.selection, "states": states}
    return [
        compared(correct, correct, "text_roll_back", split=split, **columns)
        for split, correct in right.items()
    ]


def rows(experiment: Experiment) -> pd.DataFrame:
    """Every row of the audit."""
    return table([*search_switches(experiment), *text_roll_back(experiment)])


STUDY = Study(
    name="audit",
    section="audit",
    settings=AuditSettings,
    rows=rows,
    requests=requests,
    title="Why users of the published code get less",
    remark=audit_remark,
    text=audit_text,
    figures=(
        Figure(
            "audit",
            points_by_switch,
            "What each difference of the published code from the paper costs or gains, alone and "
            "together, on the same problems. Grey: the loss that its users report.",
            ("audit",),
            columns=("switch", "difference"),
        ),
    ),
)
