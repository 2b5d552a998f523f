"""A durable queue of touches that are to be sent later, in the store of a governor.

A touch that is deferred is kept until its next allowed instant, what becomes due at once is spread, and every touch
is judged again when its turn comes; what became stale is dropped and reported. Nothing runs by itself: `run_due` sends
what is due, from a cron job or a loop of the app's own, in as many processes as there are.

**What is in a queue stands there in clear**: the customer, the address and the payload, because they are needed when
the touch is sent. A secret does not hide them. Put no more into a payload than the sender cannot look up by itself.

Rule 1: nothing goes out without a reservation of its own, made when it is due. Rule 2: nothing leaves the queue without
being in a report. Rule 3: a touch that may have gone out is sent again only if the policy says so (`in_doubt`).
"""

from fairtouch.deferral.items import Deferral
from fairtouch.deferral.queue import Deferrals
from fairtouch.deferral.queue_async import AsyncDeferrals
from fairtouch.deferral.reports import Dropped, Fate, Report

__all__ = ["AsyncDeferrals", "Deferral", "Deferrals", "Dropped", "Fate", "Report"]
