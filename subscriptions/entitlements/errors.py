"""What is refused about entitlements, by name."""

from billing.errors import Conflict, InvalidInput


class InvalidFeature(InvalidInput):
    code = "invalid_feature"
    message = "The feature is not valid."


class FeatureCodeTaken(Conflict):
    code = "feature_code_taken"
    message = "There is a feature '{feature}' already; choose another code."


class InvalidTerms(InvalidInput):
    code = "invalid_entitlement"
    message = "What is given of the feature is not valid."


class VersionSold(Conflict):
    code = "version_sold"
    message = (
        "Version {number} of '{plan}' has subscribers: {allowed}. To take something of '{feature}' away, "
        "add a version for new subscribers."
    )


class InvalidGrant(InvalidInput):
    code = "invalid_grant"
    message = "The exception is not valid."


class GrantEnded(Conflict):
    code = "grant_ended"
    message = "It was {ended} already."


class NotConsumable(InvalidInput):
    code = "not_consumable"
    message = "'{feature}' is {kind}; only quotas are consumed here. {instead}"


class KeyReused(InvalidInput):
    code = "consumption_key_reused"
    message = "The key '{key}' stands for another consumption; send a new key."


class NothingToRelease(Conflict):
    code = "nothing_to_release"
    message = "Only {used} of '{feature}' are taken in this window; give back no more than that."
