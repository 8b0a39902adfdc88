"""Waits of dunning: random policies after random outages; nobody is cut off without the days between, and every chase ends."""

from hypothesis import given, settings
from hypothesis import strategies as st

from subscriptions import dunning_rules as rules
from subscriptions import dunning_waits as waits

LETTERS, QUIET = ("mail:reminder_1", "sms:final_notice"), ("restrict", "retry")


@st.composite
def policies(draw):
    """Two to six stages on growing days, some by attempts alone, with any letters and measures."""
    days = sorted(draw(st.sets(st.integers(1, 60), min_size=2, max_size=6)))
    attempts = sorted(draw(st.sets(st.integers(1, 12), min_size=len(days), max_size=len(days))))
    stages = []
    for at, (day, tries) in enumerate(zip(days, attempts, strict=True)):
        actions = draw(
            st.sets(st.sampled_from((*LETTERS, *QUIET, rules.SUSPEND, rules.CANCEL)), min_size=1, max_size=3)
        )
        kinds = draw(st.sampled_from(("days", "both", "attempts"))) if at < len(days) - 1 else "days"
        timed = {} if kinds == "attempts" else {"after_days": day}
        tried = {} if kinds == "days" else {"after_attempts": tries}
        stages.append({"actions": sorted(actions), **timed, **tried})
    return rules.parse_stages(stages)


def chase(stages, runs, attempts=None):
    """Take what may be taken on each of the days of ``runs``; the steps as (day, from, to)."""
    history, steps, taken = [], [], 0
    for day in runs:
        tried = attempts(day) if attempts else 0
        reached = rules.reached(stages, days=day, attempts=tried)
        found = waits.reach(stages, history, taken=taken, reached=reached, days=day, attempts=tried)
        assert (found.waiting, found.stage) in ((0, max(reached, taken)), (found.stage + 1, found.stage))
        if found.stage > taken:
            steps.append((day, taken, found.stage))
            letter = waits.letter_between(stages, taken, found.stage)
            history.append(waits.Taken(stage=found.stage, days=day, letter=letter, letter_days=day if letter else None))
            taken = found.stage
    return steps


@given(policies(), st.sets(st.integers(1, 400), max_size=5), st.integers(1, 400))
@settings(max_examples=300)
def test_nobody_is_cut_off_without_the_days_that_the_policy_puts_between(stages, first_runs, end_of_outage):
    runs = sorted(first_runs | set(range(end_of_outage, 800)))

    steps = chase(stages, runs)

    assert steps[-1][2] == len(stages), "every chase ends"
    letters = []
    for day, before, to in steps:
        cutting = [number for number in range(before + 1, to + 1) if waits.is_final(stages[number - 1])]
        assert len(cutting) <= 1, "one by one"
        for number in cutting:
            writing = [at for at in range(1, number) if {*LETTERS} & {*stages[at - 1].actions}]
            gaps = [day - sent >= gap(stages, at, number) for sent, at in letters]
            assert any(gaps) or not writing
            timed = [at for at in range(1, number) if stages[at - 1].after_days is not None]
            if timed and stages[number - 1].after_days is not None:
                taken_on = next(on for on, _, end in steps if end >= timed[-1])
                assert day - taken_on >= stages[number - 1].after_days - stages[timed[-1] - 1].after_days
        if letter := waits.letter_between(stages, before, to):
            letters.append((day, letter))


def gap(stages, earlier, later):
    days = [stages[number - 1].after_days for number in (earlier, later)]
    return waits.NOTICE_DAYS if None in days else days[1] - days[0]


@given(policies())
def test_without_an_outage_a_policy_of_days_runs_to_the_day(stages):
    stages = tuple(
        rules.Stage(actions=stage.actions, after_days=10 * number) for number, stage in enumerate(stages, start=1)
    )

    steps = chase(stages, range(1, 100))

    assert steps == [(10 * number, number - 1, number) for number in range(1, len(stages) + 1)]


def test_attempts_bring_a_stage_the_day_after_its_letter():
    stages = rules.parse_stages([
        {"after_days": 5, "actions": ["mail:reminder_1"]},
        {"after_days": 20, "after_attempts": 4, "actions": ["suspend"]},
        {"after_days": 40, "actions": ["cancel"]},
    ])  # fmt: skip

    assert chase(stages, range(1, 60), lambda day: 4 if day >= 5 else 0) == [(5, 0, 1), (6, 1, 2), (40, 2, 3)]


def test_a_letter_that_has_not_left_warns_nobody():
    stages = rules.parse_stages(rules.DEFAULT_STAGES)
    history = [waits.Taken(stage=2, days=5, letter=2)]

    found = waits.reach(stages, history, taken=2, reached=3, days=90, attempts=0)

    assert found == waits.Reach(stage=2, waiting=3, not_before=None)
