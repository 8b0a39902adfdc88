"""The rules of dunning, over many cases: days and attempts, grace and pauses, what is done after an outage."""

from datetime import date, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from subscriptions import dunning_rules as rules

DUE = date(2026, 6, 1)
ONE_PLACE = [action for action in sorted(rules.ACTIONS) if action != rules.WRITE_OFF]


@st.composite
def policies(draw):
    """Well-formed stages."""
    count = draw(st.integers(1, 6))
    days = sorted(draw(st.sets(st.integers(1, 60), min_size=count, max_size=count)))
    tries = sorted(draw(st.sets(st.integers(1, 12), min_size=count, max_size=count)))
    stages = []
    for n in range(count):
        by = draw(st.sampled_from(["days", "attempts", "both"])) if n < count - 1 else "days"
        stage = {"actions": draw(st.lists(st.sampled_from(ONE_PLACE), min_size=1, max_size=3, unique=True))}
        stage |= {"after_days": days[n]} if by != "attempts" else {}
        stage |= {"after_attempts": tries[n]} if by != "days" else {}
        stage |= {"match": draw(st.sampled_from(["any", "all"]))} if by == "both" else {}
        stages.append(stage)
    return stages


@st.composite
def pauses(draw):
    """Pauses that do not overlap: (first day, first day after)."""
    edges = sorted(draw(st.sets(st.integers(-10, 90), min_size=0, max_size=6)))
    whole = [DUE + timedelta(days=edge) for edge in edges]
    return list(zip(whole[::2], whole[1::2], strict=False))


@given(policies())
def test_stages_are_kept_as_they_were_given(raw):
    stages = rules.parse_stages(raw)
    assert rules.parse_stages([stage.stored() for stage in stages]) == stages


@settings(max_examples=300)
@given(policies(), st.integers(0, 70), st.integers(0, 15), st.integers(0, 5), st.integers(0, 5))
def test_more_days_or_attempts_never_take_a_stage_back(raw, days, attempts, more_days, more_attempts):
    stages = rules.parse_stages(raw)
    before = rules.reached(stages, days=days, attempts=attempts)
    assert rules.reached(stages, days=days + more_days, attempts=attempts + more_attempts) >= before


@given(policies())
def test_every_chase_ends_by_time_alone(raw):
    stages = rules.parse_stages(raw)
    assert rules.reached(stages, days=60, attempts=0) == len(stages)


@settings(max_examples=300)
@given(policies(), st.lists(st.tuples(st.integers(0, 65), st.integers(0, 13)), min_size=1, max_size=8))
def test_measures_are_the_same_however_often_the_run_came(raw, moments):
    """Days on which nobody ran leave out letters, never measures."""
    stages = rules.parse_stages(raw)
    moments = sorted(moments)
    days, attempts = [day for day, _ in moments], sorted(tries for _, tries in moments)
    taken, done = 0, []
    for day, tries in zip(days, attempts, strict=True):
        now_at = max(taken, rules.reached(stages, days=day, attempts=tries))
        done += rules.actions_between(stages, taken, now_at)
        taken = now_at
    at_once = rules.actions_between(stages, 0, taken)
    assert {action for action in done if ":" not in action} == {action for action in at_once if ":" not in action}
    for channel in rules.CHANNELS:
        assert sum(action.startswith(channel) for action in at_once) <= 1


@settings(max_examples=500)
@given(pauses(), st.integers(0, 30), st.integers(1, 60))
def test_the_day_of_a_stage_is_the_first_on_which_its_days_count(paused, grace, days):
    on = rules.day_of(days=days, overdue_since=DUE, grace_days=grace, pauses=paused)

    def counted(day):
        return rules.counted_days(overdue_since=DUE, on=day, grace_days=grace, pauses=paused)

    assert counted(on) >= days
    assert not any(start <= on < end for start, end in paused), "nothing is done on a day of a pause"
    earlier = [DUE + timedelta(days=n) for n in range((on - DUE).days)]
    free = [day for day in earlier if not any(start <= day < end for start, end in paused)]
    assert all(counted(day) < days for day in free)


@given(pauses(), st.integers(0, 30), st.integers(0, 120))
def test_a_pause_delays_by_its_days_and_no_more(paused, grace, days):
    on = DUE + timedelta(days=days)
    length = sum(max((min(on, end) - max(DUE, start)).days, 0) for start, end in paused)
    assert rules.counted_days(overdue_since=DUE, on=on, grace_days=grace, pauses=paused) == days - grace - length


def test_what_reaches_a_stage_is_looked_for_in_all_that_are_left():
    stages = rules.parse_stages(
        [
            {"after_attempts": 2, "actions": ["mail:reminder_1"]},
            {"after_days": 9, "after_attempts": 4, "match": "all", "actions": ["suspend"]},
            {"after_days": 30, "actions": ["cancel"]},
        ]
    )
    assert [rules.next_day(stages, taken) for taken in range(4)] == [9, 9, 30, None]
    assert [rules.next_attempts(stages, taken) for taken in range(4)] == [2, 4, None, None]
    assert rules.reached(stages, days=9, attempts=3) == 1
    assert rules.reached(stages, days=9, attempts=4) == 2
    assert rules.reached(stages, days=8, attempts=9) == 1
    assert rules.level(stages, 2) == {"suspend"}
