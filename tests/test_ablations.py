"""Ablations: each variant changes one thing, examples stay equal, and nothing is made twice."""

from dataclasses import asdict, replace

import pandas as pd
import pytest

from commands.ablations import main
from lib.evaluation.results import read_results, row, table
from studies.beyond import ablations
from studies.beyond.ablations import (
    ablate,
    ablations_remark,
    ablations_text,
    accuracy_by_variant,
    committed,
    conditions,
    quick,
    shortened,
    summary,
    table_place,
    variants,
)
from studies.catalogue import load_profile

PROFILE = load_profile("cpu")


def changed(variant):
    return variant.change(PROFILE)


def differences(first, second, where=""):
    if not isinstance(first, dict):
        return [where] if first != second else []
    return [d for key in first for d in differences(first[key], second[key], f"{where}.{key}")]


def test_variants_change_only_what_they_are_named_after():
    allowed = {
        "optimizer": {"optimizer", "learning_rate", "adamw_learning_rate"},
        "batch": {"batch_size", "learning_rate", "adamw_learning_rate", "warmup_steps"},
        "loss": {"loss", "near_miss", "verdict_weight"},
        "start": set(),
    }
    found = variants(PROFILE)
    for variant in found:
        keys = {d.split(".")[-1] for d in differences(asdict(PROFILE), asdict(changed(variant)))}
        assert keys <= allowed[variant.group], variant.name
        assert changed(variant).models == PROFILE.models  # equal examples
    assert [(v.group, v.name) for v in found] == sorted(
        ((v.group, v.name) for v in found), key=table_place
    )
    # The profile's own recipe stands once in every group.
    same = [v.group for v in found if changed(v) == PROFILE and not v.from_zero]
    assert sorted(same) == ["batch", "loss", "optimizer", "start"]
    assert [v.name for v in found if v.group == "batch"] == ["32", "64", "128"]


def test_smaller_batches_take_more_and_smaller_steps():
    small = next(v for v in variants(PROFILE) if v.name == "32")
    ours, theirs = changed(small).training.branch, PROFILE.training.branch
    ratio = theirs.batch_size / 32
    assert ratio > 1 and ours.batch_size == 32
    assert ours.learning_rate == pytest.approx(theirs.learning_rate / ratio**0.5)
    assert ours.warmup_steps == ratio * theirs.warmup_steps


def test_quick_is_small():
    small = quick(PROFILE)
    whole = PROFILE.models["S"]
    assert small.models["S"].trunk_examples == whole.trunk_examples // 20
    assert small.models["S"].branch_examples == whole.branch_examples // 20
    assert small.data.validation_problems == 50 and small.search.breadths == (4,)


def test_a_share_of_the_examples():
    half = shortened(PROFILE, 0.5)
    whole = PROFILE.models["S"]
    assert list(half.models) == ["S"]
    assert half.models["S"].trunk_examples == whole.trunk_examples // 2
    assert half.models["S"].branch_examples == whole.branch_examples // 2
    assert half.data.validation_problems == PROFILE.data.validation_problems / 2
    assert half.search == PROFILE.search
    assert shortened(PROFILE, 1.0).models["S"] == whole


@pytest.mark.parametrize("arguments", ["--share 0", "--share 1.5", "--seeds -1"])
def test_shares_and_seeds_that_cannot_be(arguments, capsys):
    assert main(arguments.split()) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and arguments in error


def test_summary_by_hand():
    assert summary(table([])).empty
    rows = [
        row("ablation", "backtracking_data_greedy", accuracy=a, seed=s, group="loss", variant=v)
        for v, s, a in [("paper mask", 0, 0.5), ("paper mask", 1, 0.7), ("honest mask", 0, 0.4)]
    ]
    rows.append(
        row(
            "ablation",
            "pass_at_n",
            accuracy=0.9,
            seed=0,
            N=32,
            b=1,
            group="loss",
            variant="paper mask",
        )
    )
    for size in ("128", "32"):
        rows.append(rows[0] | {"group": "batch", "variant": size})
    found = summary(table(rows[::-1]))
    # Whatever the order of the rows.
    assert found.index.tolist() == [
        ("batch", "32"), ("batch", "128"), ("loss", "paper mask"), ("loss", "honest mask"),
    ]  # fmt: skip
    assert found.columns.tolist() == ["greedy", "pass@N N=32 b=1"]
    assert found.loc[("loss", "paper mask"), "greedy"] == "60.0 ± 14.1"
    assert found.loc[("loss", "honest mask"), "greedy"] == "40.0"


def test_no_committed_results_are_an_empty_table(tmp_path):
    rows = committed(tmp_path)
    assert rows.empty and conditions(tmp_path) == ""
    assert ablations_text(rows) == ablations_remark(rows) == ""


def test_the_results_that_ship_are_told_and_drawn():
    rows = committed()
    assert "48,000 for the branch, 500 validation problems" in conditions()
    assert "Optimiser (muon: 80.7; adamw: 48.5)." in ablations_remark(rows)
    assert ablations_text(rows).count("\n|") == 2 + 11
    titles = [axes.get_title(loc="left") for axes in accuracy_by_variant(rows).axes]
    assert titles == list(ablations.GROUPS.values())
    assert ablations.STUDY.figures[0].has_rows(rows)


def test_ablate_makes_each_variant_once(tmp_path, monkeypatch):
    profile = load_profile("smoke")
    profile = replace(
        profile,
        data=replace(profile.data, train_problems=400, validation_problems=12, test_problems=4),
        models={"S": replace(profile.models["S"], hidden_size=16, layers=1, heads=2,
                             trunk_examples=64, branch_examples=64, test_problems=4)},
        search=replace(profile.search, breadths=(2,), depths=(1,)),
    )  # fmt: skip
    chosen = [v for v in variants(profile) if v.group == "start"]
    monkeypatch.setattr(ablations, "variants", lambda _: chosen)
    output = tmp_path / "out" / "results.json"
    found = ablate(profile, "smoke", (3,), tmp_path / "runs", output)
    # Greedy, pass@N and Self-Backtracking, for two variants.
    assert len(found) == 3 * 2 and set(found["split"]) == {"validation"}
    assert set(found["problems"]) == {12} and set(found["seed"]) == {3}
    models = sorted(
        path.name.rsplit("-", 1)[0] for path in (tmp_path / "runs/seed-3/models").iterdir()
    )
    assert models == ["S-backtracking", "S-trunk", "S-zero"]
    before = output.read_bytes()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("made.json")}
    ablate(profile, "smoke", (3,), tmp_path / "runs", output)
    assert made == {
        path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("made.json")
    }
    assert output.read_bytes() == before
    _, rows = read_results(output)
    shown = summary(rows)
    assert shown.shape == (2, 3)
    pd.testing.assert_frame_equal(summary(committed(output.parent)), shown)
    assert conditions(output.parent) == (
        "S of `smoke`, 64 examples for the trunk and 64 for the branch, 12 validation problems,"
        " seeds 3."
    )
