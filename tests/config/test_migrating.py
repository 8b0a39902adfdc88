"""The short cuts of our ``migrate`` change nothing but its time."""

import pytest
from django.core.management import get_commands
from django.db import connection, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ModelState, ProjectState
from django.db.models.signals import class_prepared
from django_fsm import FSMField

from config.migrating import cheaper_states


def sql(app: str, name: str) -> list[str]:
    loader = MigrationLoader(connection, replace_migrations=False)
    return loader.collect_sql([(loader.graph.nodes[app, name], False)])


@pytest.mark.django_db
@pytest.mark.parametrize(
    "named",
    [("payments", "0001_initial"), ("subscriptions", "0008_entitlements")],
    ids=["models and constraints", "foreign keys to what is there"],
)
def test_the_sql_is_what_django_makes_by_itself(named: tuple[str, str]) -> None:
    plain = sql(*named)

    with cheaper_states():
        cheap = sql(*named)

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


def test_a_new_model_is_drawn_alone_and_known_to_its_relatives() -> None:
    state = MigrationLoader(None).project_state(("payments", "0001_initial"))
    customer = state.apps.get_model("billing", "customer")
    listeners = len(class_prepared.receivers)
    key = models.ForeignKey("billing.Customer", models.CASCADE, related_name="badges")
    badge = ModelState(
        "payments", "Badge", [("id", models.AutoField(primary_key=True)), ("of", key), ("state", FSMField())]
    )

    with cheaper_states():
        state.add_model(badge)
        state.add_field("payments", "badge", "again", key.clone(), preserve_default=True)

    drawn = state.apps.get_model("payments", "badge")
    assert state.apps.get_model("billing", "customer") is customer, "nothing was drawn anew"
    assert drawn._meta.get_field("of").related_model is customer
    assert drawn._meta.get_field("again").column == "again_id"
    assert drawn in {relation.related_model for relation in customer._meta.related_objects}
    assert len(class_prepared.receivers) == listeners


def test_migrate_is_ours_and_django_is_left_alone_outside_of_it() -> None:
    assert get_commands()["migrate"] == "config"
    assert ProjectState._append_option.__module__ == "django.db.migrations.state"
