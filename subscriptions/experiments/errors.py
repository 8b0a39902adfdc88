"""What experiments refuse, by name."""

from billing.errors import Conflict, InvalidInput


class InvalidExperiment(InvalidInput):
    code = "invalid_experiment"
    message = "The experiment is not valid."


class ExperimentCodeTaken(Conflict):
    code = "experiment_code_taken"
    message = "An experiment with the code '{experiment}' exists; choose another code."


class WeightsDoNotSum(InvalidExperiment):
    code = "weights_do_not_sum"
    message = "The weights come to {total}; they are percentages and come to 100."


class CurrenciesDiffer(InvalidExperiment):
    code = "currencies_differ"
    message = (
        "'{variant}' has prices in {other}, the control in {control}; all variants have prices in the same currencies."
    )


class ExperimentOverlaps(Conflict):
    code = "experiment_overlaps"
    message = "The experiment '{experiment}' uses the plan '{plan}' and is {status}; conclude it first."


class ExperimentState(Conflict):
    code = "experiment_state"
    message = "The experiment is {status}; it cannot be {operation}."
