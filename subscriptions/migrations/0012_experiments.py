"""Experiments on a plan, between versions of plans. The tables of the migration before were never written to: they go."""

import django.core.validators
import django.db.models.deletion
import django_fsm
from django.db import migrations, models

import billing.ids


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0004_usage_partitions"),
        ("subscriptions", "0011_coupons_and_experiments"),
    ]

    operations = [
        migrations.DeleteModel(name="Exposure"),
        migrations.DeleteModel(name="ExperimentVariant"),
        migrations.DeleteModel(name="Experiment"),
        migrations.CreateModel(
            name="Experiment",
            fields=[
                ("id", models.UUIDField(default=billing.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "recorded_at",
                    models.DateTimeField(auto_now_add=True, help_text="When the row was written (wall clock)."),
                ),
                ("code", models.SlugField(max_length=60)),
                ("name", models.CharField(max_length=120)),
                ("hypothesis", models.CharField(blank=True, help_text="What is expected, and why.", max_length=500)),
                (
                    "salt",
                    models.CharField(
                        help_text="Makes its assignment independent of that of other experiments.", max_length=32
                    ),
                ),
                (
                    "status",
                    django_fsm.FSMField(
                        choices=[
                            ("draft", "Draft"),
                            ("running", "Running"),
                            ("stopped", "Stopped"),
                            ("concluded", "Concluded"),
                        ],
                        default="draft",
                        max_length=50,
                        protected=True,
                    ),
                ),
                (
                    "allocation_percent",
                    models.PositiveSmallIntegerField(
                        default=100,
                        help_text="Share of the customers who take part; the others get the control's prices and are not counted.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "exclude_subscribers",
                    models.BooleanField(
                        default=True, help_text="Who subscribes to one of its plans already takes no part."
                    ),
                ),
                (
                    "conversion_days",
                    models.PositiveSmallIntegerField(
                        default=30,
                        help_text="Days after a customer was first shown a price in which a subscription counts.",
                    ),
                ),
                (
                    "starts_at",
                    models.DateTimeField(blank=True, help_text="From when on customers are assigned.", null=True),
                ),
                ("ends_at", models.DateTimeField(blank=True, help_text="When it stops by itself.", null=True)),
                (
                    "baseline_rate",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="Expected rate of conversion of the control.",
                        max_digits=7,
                        null=True,
                    ),
                ),
                (
                    "minimum_effect",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        help_text="Least difference of rates worth finding.",
                        max_digits=7,
                        null=True,
                    ),
                ),
                (
                    "significance",
                    models.DecimalField(
                        decimal_places=4,
                        default="0.05",
                        help_text="Accepted risk to see a difference where none is.",
                        max_digits=5,
                    ),
                ),
                (
                    "power",
                    models.DecimalField(
                        decimal_places=4,
                        default="0.8",
                        help_text="Wanted chance to see the least difference.",
                        max_digits=5,
                    ),
                ),
                (
                    "planned_sample",
                    models.PositiveIntegerField(
                        blank=True, help_text="Customers of each variant before anything is claimed.", null=True
                    ),
                ),
                (
                    "look_count",
                    models.PositiveIntegerField(
                        default=0, help_text="Times its figures were read before the sample was full."
                    ),
                ),
                (
                    "looked_exposed",
                    models.PositiveIntegerField(default=0, help_text="Customers exposed at the last of these times."),
                ),
                (
                    "reweighed_at",
                    models.DateTimeField(
                        blank=True, help_text="When weights or share were last changed in its run.", null=True
                    ),
                ),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("stopped_at", models.DateTimeField(blank=True, null=True)),
                ("concluded_at", models.DateTimeField(blank=True, null=True)),
                (
                    "conclusion",
                    models.JSONField(
                        blank=True, default=dict, help_text="The figures as they stood when it was decided."
                    ),
                ),
                ("created_at", models.DateTimeField()),
                (
                    "organisation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.organisation"
                    ),
                ),
                (
                    "plan",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="experiments", to="subscriptions.plan"
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="ExperimentVariant",
            fields=[
                ("id", models.UUIDField(default=billing.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "recorded_at",
                    models.DateTimeField(auto_now_add=True, help_text="When the row was written (wall clock)."),
                ),
                ("code", models.SlugField(max_length=60)),
                ("name", models.CharField(max_length=120)),
                ("weight", models.PositiveSmallIntegerField(help_text="Percent of those who take part.")),
                ("is_control", models.BooleanField(default=False, help_text="What the others are compared with.")),
                ("position", models.PositiveSmallIntegerField(default=1)),
                (
                    "experiment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="variants",
                        to="subscriptions.experiment",
                    ),
                ),
                (
                    "organisation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.organisation"
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="subscriptions.planversion"
                    ),
                ),
            ],
            options={
                "ordering": ["position"],
            },
        ),
        migrations.CreateModel(
            name="ExperimentExposure",
            fields=[
                ("id", models.UUIDField(default=billing.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "recorded_at",
                    models.DateTimeField(auto_now_add=True, help_text="When the row was written (wall clock)."),
                ),
                (
                    "channel",
                    models.CharField(
                        choices=[("assign", "Assign"), ("quote", "Quote"), ("subscribe", "Subscribe")], max_length=10
                    ),
                ),
                ("exposed_at", models.DateTimeField()),
                ("converted_at", models.DateTimeField(blank=True, null=True)),
                (
                    "customer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.customer"
                    ),
                ),
                (
                    "experiment",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="exposures",
                        to="subscriptions.experiment",
                    ),
                ),
                (
                    "organisation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.organisation"
                    ),
                ),
                (
                    "subscription",
                    models.ForeignKey(
                        blank=True,
                        help_text="The first one taken.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="subscriptions.subscription",
                    ),
                ),
                (
                    "variant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="exposures",
                        to="subscriptions.experimentvariant",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.AddField(
            model_name="experiment",
            name="chosen",
            field=models.ForeignKey(
                blank=True,
                help_text="What was decided for.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="subscriptions.experimentvariant",
            ),
        ),
        migrations.AddConstraint(
            model_name="experimentvariant",
            constraint=models.UniqueConstraint(fields=("experiment", "code"), name="experiment_variant_code"),
        ),
        migrations.AddConstraint(
            model_name="experimentvariant",
            constraint=models.UniqueConstraint(fields=("experiment", "version"), name="experiment_variant_version"),
        ),
        migrations.AddConstraint(
            model_name="experimentvariant",
            constraint=models.UniqueConstraint(
                condition=models.Q(("is_control", True)), fields=("experiment",), name="experiment_one_control"
            ),
        ),
        migrations.AddConstraint(
            model_name="experimentvariant",
            constraint=models.CheckConstraint(
                condition=models.Q(("weight__lte", 100)), name="experiment_variant_weight"
            ),
        ),
        migrations.AddConstraint(
            model_name="experimentexposure",
            constraint=models.UniqueConstraint(fields=("experiment", "customer"), name="experiment_exposed_once"),
        ),
        migrations.AddConstraint(
            model_name="experimentexposure",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("converted_at__isnull", True), ("subscription__isnull", True)),
                    models.Q(("converted_at__isnull", False), ("subscription__isnull", False)),
                    _connector="OR",
                ),
                name="experiment_converted_by_one",
            ),
        ),
        migrations.AddConstraint(
            model_name="experiment",
            constraint=models.UniqueConstraint(fields=("organisation", "code"), name="experiment_code"),
        ),
        migrations.AddConstraint(
            model_name="experiment",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status__in", ["running", "stopped"])),
                fields=("plan",),
                name="experiment_one_per_plan",
            ),
        ),
        migrations.AddConstraint(
            model_name="experiment",
            constraint=models.CheckConstraint(
                condition=models.Q(("allocation_percent__gte", 1), ("allocation_percent__lte", 100)),
                name="experiment_allocation",
            ),
        ),
        migrations.AddConstraint(
            model_name="experiment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("status", "draft"),
                    models.Q(("planned_sample__gte", 1), ("starts_at__isnull", False)),
                    _connector="OR",
                ),
                name="experiment_planned",
            ),
        ),
    ]
