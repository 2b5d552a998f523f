"""A governed Celery task: judged when it runs, put off by messages that come back, sent once.

Messages go through a real broker; `run` takes the next one and hands it to Celery's own tracer, as a worker's process
does. Real workers are in `test_celery_workers.py`, and those that are killed in `test_celery_kills.py`.
"""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Reject, SoftTimeLimitExceeded
from kombu.exceptions import OperationalError

from fairtouch import AsyncGovernor, Governor, Policy, StoreUnavailable, Touch, TouchError
from fairtouch.integrations.celery import NotSent, governed
from tests.workers import codes

VISIBLE_SECONDS = 20
GAP = {"caps": {"gap": {"limit": "1 per 10 seconds"}}}


class Ran(NamedTuple):
    """What became of a run, as Celery says it."""

    state: str
    result: Any


class Shop:
    """An app with a queue of its own, and a governor."""

    def __init__(self, url: str, store: str, **sections: Any) -> None:
        self.app = Celery("shop", broker=url, set_as_current=False)
        self.app.conf.update(
            task_default_queue=f"queue-{uuid4()}",
            broker_transport_options={"visibility_timeout": VISIBLE_SECONDS},
            task_acks_late=True,
            task_publish_retry=False,
        )
        self.governor = Governor(Policy.model_validate({"name": "shop", **sections}), store)
        self.sent: list[str] = []
        self._connection = self.app.connection_for_read()
        self._queue = self._connection.SimpleQueue(self.app.conf.task_default_queue)

    def task(self, send: Callable[..., Any] | None = None, *, governor: Any = None, **options: Any) -> Any:
        """A governed task that sends."""
        own = {name: options.pop(name) for name in set(options) & OURS}

        def mail(customer: str) -> str:
            self.sent.append(customer)
            return f"sent to {customer}"

        send = send or mail
        decorated = governed(governor or self.governor, own.pop("to_touch", to_touch), **own)(send)
        return self.app.task(name=f"task-{uuid4()}", **options)(decorated)

    def messages(self) -> int:
        """How many the broker has."""
        with self._connection.channel() as channel:
            return int(channel.client.llen(self.app.conf.task_default_queue))

    def take(self) -> Any:
        """The next message, which the broker forgets."""
        message = self._queue.get(timeout=5)
        message.ack()
        return message

    def run(self, task: Any, message: Any = None) -> Ran:
        """Run a task by a message, or by the next one, whatever its time is."""
        message = message or self.take()
        args, kwargs, _ = message.payload
        request = {**message.headers, "delivery_info": message.delivery_info}
        result, info, *_ = build_tracer(task.name, task, app=self.app)(message.headers["id"], args, kwargs, request)
        return Ran("SUCCESS", result) if info is None else Ran(info.state, info.retval)

    def close(self) -> None:
        """Close what was opened."""
        self._queue.close()
        self._connection.close()
        self.app.close()
        self.governor.close()


OURS = {"to_touch", "on_refused", "give_up_after", "spread", "hops_max"}


def to_touch(customer: str) -> Touch:
    """A marketing mail, without an id."""
    return Touch(customer, channel="email")


Opened = Callable[..., Shop]


@pytest.fixture
def opened(redis_server, redis_url) -> Iterator[Opened]:
    """Opens shops on one store."""
    shops: list[Shop] = []

    def open_shop(**sections: Any) -> Shop:
        broker, store = sections.pop("broker", redis_server.url), sections.pop("store", redis_url)
        shops.append(Shop(broker, store, **sections))
        return shops[-1]

    yield open_shop
    for shop in shops:
        shop.close()


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(datetime.now(UTC).timestamp() * 1000)


def rest(message: Any) -> float:
    """In how many seconds a message is to come."""
    return (datetime.fromisoformat(message.headers["eta"]) - datetime.now(UTC)).total_seconds()


# Allowed


def test_an_allowed_task_sends_and_confirms(opened):
    """The function runs between reservation and confirmation, its result is the task's, and its id is the touch's."""
    shop = opened()
    task = shop.task()
    task_id = task.delay("ada").id
    assert Ran("SUCCESS", "sent to ada") == shop.run(task)
    assert [(task_id, "confirmed")] == [(entry.id, entry.state) for entry in shop.governor.history("ada")]


def test_nothing_is_judged_when_a_task_is_enqueued(opened):
    """An opt-out between enqueue and send stops the send; the failure names rules and no person."""
    shop = opened()
    task = shop.task()
    task.delay("ada@example.org")
    shop.governor.consent.opt_out("ada@example.org")
    state, error = shop.run(task)
    assert ("FAILURE", []) == (state, shop.sent)
    assert isinstance(error, NotSent)
    assert str(error).startswith("refused: consent: the customer opted out of everything at ")
    assert [] == shop.governor.history("ada@example.org")


def test_a_touch_keeps_its_own_id(opened):
    """An id from `to_touch` is the touch's, whatever task brings it: what was enqueued twice goes out once, and both
    tasks succeed.
    """
    shop = opened()
    task = shop.task(to_touch=lambda customer: Touch(customer, channel="email", id="news-47"))
    for _ in range(2):
        task.delay("ada")
    assert [Ran("SUCCESS", "sent to ada"), Ran("SUCCESS", None)] == [shop.run(task), shop.run(task)]
    assert ["ada"] == shop.sent


def test_a_message_that_comes_twice_sends_once(opened):
    """What a broker delivers again finds the touch confirmed, and succeeds."""
    shop = opened()
    task = shop.task()
    for _ in range(2):
        task.apply_async(("ada",), task_id="one")
    assert ["SUCCESS", "SUCCESS"] == [shop.run(task).state, shop.run(task).state]
    assert ["ada"] == shop.sent


def test_a_bound_task_passes_itself(opened):
    """With `bind=True` both functions get the task, as without fairtouch; a class's `run` may be governed, too."""
    shop = opened()

    def send(self: Any, customer: str) -> tuple[str, str]:
        return self.name, customer

    task = shop.task(send, to_touch=lambda self, customer: to_touch(customer), bind=True)
    task.delay("ada")
    assert Ran("SUCCESS", (task.name, "ada")) == shop.run(task)

    class Mail(shop.app.Task):
        name = "mail"

        @governed(shop.governor, lambda self, customer: to_touch(customer))
        def run(self, customer: str) -> str:
            return self.request.id

    mail = shop.app.register_task(Mail())
    task_id = mail.delay("grace").id
    assert Ran("SUCCESS", task_id) == shop.run(mail)
    assert [task_id] == [entry.id for entry in shop.governor.history("grace")]


def test_celery_still_checks_arguments(opened):
    """A task that is enqueued with arguments that its function does not take is an error there and then."""
    task = opened().task()
    with pytest.raises(TypeError):
        task.delay()
    with pytest.raises(TypeError):
        task.delay("ada", "bob")


# Deferred


def just_sent(shop: Shop, customer: str) -> None:
    """She got something just now."""
    shop.governor.record(customer, datetime.now(UTC), channel="email")


def test_a_deferred_task_comes_back(opened):
    """Its message comes back when the touch would pass, with the same id and arguments; `max_retries` is for failures,
    and none is used.
    """
    shop = opened(**GAP)
    task = shop.task(max_retries=0, spread=timedelta(0))
    began = datetime.now(UTC)
    just_sent(shop, "ada")
    task_id = task.delay("ada").id
    state, retry = shop.run(task)
    assert ("RETRY", NotSent) == (state, type(retry.exc))
    assert re.fullmatch("deferred until .* UTC: gap: 1 of 1 touches used per 10 seconds", str(retry.exc))
    message = shop.take()
    assert (task_id, 0, ["ada"]) == (message.headers["id"], message.headers["retries"], message.payload[0])
    assert 7 < (datetime.fromisoformat(message.headers["eta"]) - began).total_seconds()
    assert rest(message) <= 10
    assert [] == shop.sent


def test_a_hop_asks_nobody(opened):
    """A message that comes before its time goes on without asking the store, and one that is due is judged anew."""
    shop = opened(**GAP)
    asked: list[Any] = []
    shop.governor.on_decision(asked.append)
    task = shop.task(spread=timedelta(0))
    just_sent(shop, "ada")
    task.delay("ada")
    shop.run(task)
    assert Ran("RETRY", None) == shop.run(task)._replace(result=None)
    assert 1 == len(asked)
    message = shop.take()
    message.headers["fairtouch"]["until"] = 0
    assert "RETRY" == shop.run(task, message).state
    assert 2 == len(asked)


def test_no_hop_is_as_long_as_the_broker_waits(opened):
    """However long a touch is put off, no message rests for longer than half of the visibility time-out; and messages
    that came together do not go on together.
    """
    shop = opened(caps={"weekly": {"limit": "1 per 6 days"}})
    task = shop.task()
    just_sent(shop, "ada")
    task.delay("ada")
    rests = set()
    for _ in range(20):
        assert "RETRY" == shop.run(task).state
        message = shop.take()
        rests.add(round(rest(message), 1))
        task.apply_async(("ada",), headers={"fairtouch": message.headers["fairtouch"]})
    assert (True, True) == (0 < min(rests), max(rests) <= VISIBLE_SECONDS / 2)
    assert len(rests) > 5


def test_without_a_visibility_timeout_hops_suit_every_broker(opened):
    """Where the app sets none, a message rests for 15 minutes at most: half of the least that any broker waits."""
    shop = opened(caps={"weekly": {"limit": "1 per 6 days"}})
    shop.app.conf.broker_transport_options = {}
    task = shop.task()
    just_sent(shop, "ada")
    task.delay("ada")
    shop.run(task)
    assert 600 < rest(shop.take()) <= 900


def test_what_becomes_due_at_once_is_spread(opened):
    """Touches that wait for one instant come back at random within `spread` after it."""
    shop = opened(caps={"gap": {"limit": "1 per 2 seconds"}})
    task = shop.task(spread=timedelta(seconds=4))
    after = []
    for number in range(40):
        began = now_ms()
        just_sent(shop, f"customer-{number}")
        task.delay(f"customer-{number}")
        shop.run(task)
        until = shop.take().headers["fairtouch"]["until"]
        assert began + 2_000 <= until <= now_ms() + 6_000
        after.append(until - began)
    assert max(after) - min(after) > 2_000


def test_a_touch_that_cannot_wait_is_given_up(opened):
    """What would pass only after its time to live, which begins with the first run, is given up at once, and said."""
    shop = opened(**GAP)
    task = shop.task(give_up_after=timedelta(seconds=1))
    just_sent(shop, "ada")
    task.delay("ada")
    state, error = shop.run(task)
    assert ("FAILURE", NotSent, 0) == (state, type(error), shop.messages())
    assert str(error).startswith("given up, for it cannot wait: deferred until")


def test_the_time_to_live_goes_on_over_hops(opened):
    """A message remembers since when it waits."""
    shop = opened(**GAP)
    task = shop.task(give_up_after=timedelta(seconds=60))
    just_sent(shop, "ada")
    task.delay("ada")
    shop.run(task)
    message = shop.take()
    message.headers["fairtouch"].update(until=0)
    message.headers["fairtouch"]["since"] -= 59_000
    assert "FAILURE" == shop.run(task, message).state


def test_hops_are_bounded(opened):
    """After `hops_max` hops a touch that is still not welcome is given up, wherever its time is."""
    shop = opened(**GAP)
    task = shop.task(hops_max=3)
    just_sent(shop, "ada")
    task.delay("ada")
    assert ["RETRY", "RETRY", "RETRY", "FAILURE"] == [shop.run(task).state for _ in range(4)]
    assert 0 == shop.messages()


# Refused


@pytest.mark.parametrize(
    ("on_refused", "result"),
    [
        ("skip", "refused: suppression: the address must not be contacted on this channel"),
        (codes, ["suppressed"]),
    ],
    ids=["skip", "a callable"],
)
def test_refusals_can_be_results(on_refused, result, opened):
    """Where the app says so a refusal is no failure: the reasons as a text, or what the app makes of the decision."""
    shop = opened()
    task = shop.task(
        on_refused=on_refused, to_touch=lambda customer: Touch(customer, channel="email", address="ada@example.org")
    )
    shop.governor.suppressions.add("ada@example.org", "email")
    task.delay("ada")
    ran = shop.run(task)
    assert ("SUCCESS", [], 0) == (ran.state, shop.sent, shop.messages())
    assert ran.result == result if on_refused is codes else ran.result.startswith("refused: suppress")


def test_a_refusal_survives_pickle_and_json():
    """The exception travels as its text, by pickle to a worker's parent and by JSON to a result backend."""
    error = NotSent("refused: consent: the customer opted out of this", decision="a decision")
    copy = pickle.loads(pickle.dumps(error))
    assert (NotSent, str(error), None) == (type(copy), str(copy), copy.decision)
    backend = Celery("shop", backend="cache+memory://", set_as_current=False).backend
    back = backend.exception_to_python(json.loads(json.dumps(backend.prepare_exception(error, "json"))))
    assert (NotSent, str(error)) == (type(back), str(back))


def test_autoretry_can_leave_refusals_alone(opened):
    """`autoretry_for` would try a refusal again; `dont_autoretry_for` is Celery's own word against it."""
    shop = opened()
    task = shop.task(autoretry_for=(Exception,), dont_autoretry_for=(NotSent,))
    shop.governor.consent.opt_out("ada")
    task.delay("ada")
    assert ("FAILURE", 0) == (shop.run(task).state, shop.messages())


# A send that fails


class MailboxFull(Exception):
    pass


def failing(error: BaseException) -> Callable[[str], str]:
    """A send that fails once."""
    errors = [error]

    def send(customer: str) -> str:
        if errors:
            raise errors.pop()
        return "sent"

    return send


def test_a_failed_send_is_tried_again_by_celery(opened):
    """What certainly failed gives slot and id back, so that Celery's own retry sends under the same id."""
    shop = opened(caps={"weekly": {"limit": "1 per 7 days"}})
    task = shop.task(failing(MailboxFull()), autoretry_for=(MailboxFull,), max_retries=1)
    task_id = task.delay("ada").id
    assert ("RETRY", []) == (shop.run(task).state, shop.governor.history("ada"))
    assert Ran("SUCCESS", "sent") == shop.run(task)
    assert [(task_id, "confirmed")] == [(entry.id, entry.state) for entry in shop.governor.history("ada")]


def test_failures_do_not_begin_the_time_to_live_anew(opened):
    """Celery's own retries carry since when the touch waits."""
    shop = opened()
    task = shop.task(failing(MailboxFull()), autoretry_for=(MailboxFull,), give_up_after=timedelta(seconds=5))
    task.delay("ada")
    shop.run(task)
    message = shop.take()
    assert (1, 0) == (message.headers["retries"], message.headers["fairtouch"]["hops"])
    assert 0 <= now_ms() - message.headers["fairtouch"]["since"] < 60_000


@pytest.mark.parametrize("error", [TimeoutError(), SoftTimeLimitExceeded(), ConnectionResetError()], ids=type)
def test_a_send_in_doubt_keeps_its_slot(error, opened):
    """What may have gone out fails as the app's own exception; a second try waits for the end of the lease, and then
    the touch is refused as in doubt: it is not sent again.
    """
    shop = opened(in_doubt="hold")
    task = shop.task(failing(error), autoretry_for=(type(error),))
    task.delay("ada")
    assert "RETRY" == shop.run(task).state
    assert ["reserved"] == [entry.state for entry in shop.governor.history("ada")]
    state, retry = shop.run(task)
    assert ("RETRY", True) == (state, "another caller" in str(retry.exc)), retry


# The store


def test_a_store_that_is_down_loses_nothing(opened, own):
    """Nothing goes out; the error names the store; the message comes back soon, later each time, and sends when the
    store answers.
    """
    server = own("--appendonly", "yes")
    shop = opened(store=f"{server.url}?deadline_seconds=0.2")
    task = shop.task(max_retries=0)
    server.stop()
    task_id = task.delay("ada").id
    seconds = []
    for _ in range(3):
        began = now_ms()
        state, retry = shop.run(task)
        assert ("RETRY", True) == (state, "StoreUnavailable('Redis did not answer" in str(retry))
        message = shop.take()
        seconds.append((message.headers["fairtouch"]["until"] - began) / 1000)
        message.headers["fairtouch"]["until"] = 0
        task.apply_async(("ada",), task_id=task_id, headers={"fairtouch": message.headers["fairtouch"]})
    assert [] == [(number, each) for number, each in enumerate(seconds) if each < 2**number / 2]
    assert [] == shop.sent
    server.start()
    assert Ran("SUCCESS", "sent to ada") == shop.run(task)


def test_a_store_that_stays_down_is_the_failure(opened, own):
    """When the touch has lived for so long, the task fails with what the store said."""
    server = own()
    shop = opened(store=f"{server.url}?deadline_seconds=0.2")
    task = shop.task(give_up_after=timedelta(0))
    server.stop()
    task.delay("ada")
    state, error = shop.run(task)
    assert ("FAILURE", StoreUnavailable, 0) == (state, type(error), shop.messages())


def test_a_governor_may_be_made_in_the_worker(opened, redis_url):
    """An app that only enqueues needs no store: a callable makes the governor when a task runs."""
    shop = opened()
    made: list[Governor] = []

    def make() -> Governor:
        made.append(shop.governor)
        return shop.governor

    task = shop.task(governor=make)
    task.delay("ada")
    assert [] == made
    assert Ran("SUCCESS", "sent to ada") == shop.run(task)
    assert [shop.governor] == made


# The broker


@pytest.mark.parametrize(
    ("acks_late", "outcome"), [(True, ("REJECTED", Reject)), (False, ("FAILURE", OperationalError))]
)
def test_a_broker_that_takes_no_hop_keeps_the_message(acks_late, outcome, opened, own):
    """When the next message cannot be sent, this one is given back to the broker; one that was acknowledged early
    cannot be, and its task fails aloud.
    """
    broker = own()
    shop = opened(broker=broker.url, **GAP)
    task = shop.task(acks_late=acks_late)
    just_sent(shop, "ada")
    task.delay("ada")
    message = shop.take()
    broker.stop()
    state, error = shop.run(task, message)
    assert outcome == (state, type(error))
    assert not acks_late or error.requeue
    broker.start()


# Called otherwise


def test_eager_tasks_do_not_wait(opened):
    """Where nothing can come back, what is deferred is given up: no loop, and no sleep."""
    shop = opened(**GAP)
    task = shop.task()
    shop.app.conf.task_always_eager = True
    result = task.delay("ada")
    assert [result.id] == [entry.id for entry in shop.governor.history("ada")]
    result = task.delay("ada")
    assert ("FAILURE", True) == (result.state, str(result.result).startswith("given up"))
    assert ["ada"] == shop.sent


def test_a_direct_call_is_guarded(opened):
    """A task that is called as a function is judged, sends or raises; the decision is at hand."""
    shop = opened(**GAP)
    task = shop.task()
    assert "sent to ada" == task("ada")
    with pytest.raises(NotSent) as caught:
        task("ada")
    assert (["cap_reached"], 0) == (codes(caught.value.decision), shop.messages())


def test_a_governed_function_within_another_task(opened):
    """A governed function that another task calls does not take that task's id, and does not put that task off."""
    shop = opened(**GAP)
    send = governed(shop.governor, to_touch)(shop.sent.append)

    def send_all() -> None:
        for customer in ("ada", "bob", "ada"):
            send(customer)

    task = shop.app.task(send_all)
    task_id = task.delay().id
    assert ("FAILURE", 0, ["ada", "bob"]) == (shop.run(task).state, shop.messages(), shop.sent)
    assert task_id not in {entry.id for name in ("ada", "bob") for entry in shop.governor.history(name)}


# Mistakes


def test_what_cannot_be_governed_is_said(opened):
    """Coroutines, generators, governors that are awaited, times that make no sense: an error that says so, at once or
    before anything is sent.
    """
    shop = opened()

    async def coroutine(customer: str) -> None: ...

    def generator(customer: str) -> Iterator[str]:
        yield customer

    awaited = AsyncGovernor(Policy(name="shop"), "memory://")
    for wrong in (coroutine, generator):
        with pytest.raises(TypeError, match=wrong.__name__):
            governed(shop.governor, to_touch)(wrong)
    with pytest.raises(TypeError, match="AsyncGovernor"):
        governed(awaited, to_touch)
    with pytest.raises(TypeError, match="nothing was sent"):
        governed(lambda: awaited, to_touch)(print)("ada")
    with pytest.raises(TouchError):
        governed(shop.governor, lambda customer: {"channel": "email"})(print)("ada")
    with pytest.raises(TypeError, match="on_refused"):
        governed(shop.governor, to_touch, on_refused="ignore")
    for times in ({"spread": timedelta(-1)}, {"give_up_after": timedelta(-1)}, {"hops_max": 0}):
        with pytest.raises(ValueError, match=next(iter(times))):
            governed(shop.governor, to_touch, **times)


WITHOUT_CELERY = """
import sys
sys.modules["celery"] = None
try:
    import fairtouch.integrations.celery
except ModuleNotFoundError as error:
    print(error)
"""


def test_without_celery_the_error_names_the_extra():
    """Who imports the integration without its host is told what to install."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_CELERY], capture_output=True, text=True, check=True)
    assert "pip install 'fairtouch[celery]'" in done.stdout
