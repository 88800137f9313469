import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.quality.intervals import FEWEST, Resampling

MANY = [f"conversation {n // 4}" for n in range(40)]
KINDS = ["often", "often", "often", "seldom"] * 10


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.booleans())
def test_an_interval_holds_its_mean_and_repeats(seed, macro):
    values = np.random.default_rng(seed).random(40).tolist()
    first = Resampling(MANY, KINDS).interval(values, macro=macro)
    assert first.low - 1e-9 <= first.mean <= first.high + 1e-9
    assert Resampling(MANY, KINDS).interval(values, macro=macro) == first


def test_micro_counts_every_question_and_macro_every_type():
    values = [1.0, 1.0, 1.0, 0.0] * 10
    resampling = Resampling(MANY, KINDS)
    assert resampling.interval(values).mean == 0.75
    assert resampling.interval(values, macro=True).mean == 0.5


def test_questions_of_one_conversation_do_not_count_as_independent():
    """Answers that are right or wrong a whole conversation at a time say less than their number."""
    together = [float(n // 4 % 2) for n in range(40)]
    apart = [float(n % 2) for n in range(40)]
    resampling = Resampling(MANY, ["t"] * 40)
    wide, narrow = resampling.interval(together), resampling.interval(apart)
    assert wide.high - wide.low > 0.5
    assert narrow.high - narrow.low == pytest.approx(0)


def test_with_few_conversations_questions_are_drawn():
    few = [f"c{n % (FEWEST - 1)}" for n in range(40)]
    assert Resampling(few, ["t"] * 40).unit == "questions"
    assert Resampling(MANY, ["t"] * 40).unit == "conversations"


def test_an_interval_over_questions_is_about_as_wide_as_theory_says():
    values = np.random.default_rng(0).random(400).tolist()
    interval = Resampling(["one"] * 400, ["t"] * 400).interval(values)
    theory = 2 * 1.96 * np.std(values) / 20
    assert interval.high - interval.low == pytest.approx(theory, rel=0.1)


def test_a_small_but_constant_gain_is_certain_only_when_it_is_paired():
    values = np.random.default_rng(0).random(40) * 0.9
    resampling = Resampling(MANY, ["t"] * 40)
    gain = resampling.difference((values + 0.05).tolist(), values.tolist())
    assert gain.excludes_zero
    assert gain.mean == pytest.approx(0.05)
    before, after = (
        resampling.interval(values.tolist()),
        resampling.interval((values + 0.05).tolist()),
    )
    assert before.high > after.low
