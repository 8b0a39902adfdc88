"""The outbox: facts written with the change they report, handed to each registered consumer once.

Publish inside the transaction of the change. After commit a worker is woken; what a crash or a lost message leaves
behind is found by the sweeper. Consumers are idempotent; that a consumer has handled an event is recorded in the
transaction of its handler.
"""

from billing.services.outbox.consumers import Consumer, consumers_of, handles
from billing.services.outbox.dispatching import dispatch
from billing.services.outbox.owing import hurry, replay
from billing.services.outbox.publishing import Fact, publish, publish_many
from billing.services.outbox.waking import begins, quiet, wake_after_commit

__all__ = [
    "Consumer",
    "Fact",
    "begins",
    "consumers_of",
    "dispatch",
    "handles",
    "hurry",
    "publish",
    "publish_many",
    "quiet",
    "replay",
    "wake_after_commit",
]
