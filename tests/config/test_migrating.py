"""The short cuts of our ``migrate`` change nothing but its time."""

import pytest
from django.core.management import get_commands
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from config.migrating import cheaper_states


def sql(app: str, name: str) -> list[str]:
    loader = MigrationLoader(connection, replace_migrations=False)
    return loader.collect_sql([(loader.graph.nodes[app, name], False)])


@pytest.mark.django_db
def test_the_sql_is_what_django_makes_by_itself() -> None:
    plain = sql("payments", "0001_initial")

    with cheaper_states():
        cheap = sql("payments", "0001_initial")

    assert cheap == plain
    assert sum("ADD CONSTRAINT" in line or "CREATE INDEX" in line for line in cheap) > 20


def test_a_drawn_model_gets_and_loses_its_constraints() -> None:
    state = MigrationLoader(None).project_state(("payments", "0001_initial"))
    drawn = state.apps.get_model("payments", "payment")
    constraint = drawn._meta.constraints[0]

    with cheaper_states():
        state.remove_constraint("payments", "payment", constraint.name)
        without = [each.name for each in state.apps.get_model("payments", "payment")._meta.constraints]
        state.add_constraint("payments", "payment", constraint)

    assert state.apps.get_model("payments", "payment") is drawn, "nothing was drawn anew"
    assert constraint.name not in without
    assert drawn._meta.constraints[-1] == constraint
    assert state.models["payments", "payment"].options["constraints"][-1] == constraint


def test_migrate_is_ours_and_django_is_left_alone_outside_of_it() -> None:
    assert get_commands()["migrate"] == "config"
    assert ProjectState._append_option.__module__ == "django.db.migrations.state"
