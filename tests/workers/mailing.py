"""A Celery app whose tasks send, for tests of real workers: `celery --app tests.workers.mailing worker`.

Rule 1: what a process does it writes to a file that outlives it, a line at a time: `what pid task-id`. Rule 2: a mail
is such a line.
"""

from __future__ import annotations

import os
import random
import time
from datetime import timedelta
from typing import Any

from celery import Celery
from celery.signals import celeryd_after_setup, task_postrun, worker_process_init

from fairtouch import Decision, Touch
from fairtouch.integrations.celery import governed
from tests.celery_workers import Mailing

MAILING = Mailing.from_environment()
VISIBLE_SECONDS = 2
SPREAD = timedelta(seconds=3)
MOMENT_SECONDS = 0.03  # at most this long before a reservation, before a mail and after it: to be killed in

app = Celery("mailing", broker=MAILING.broker)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": VISIBLE_SECONDS,
        "unacked_restore_interval": 0.5,  # how often kombu looks for messages whose time is over: else every 100 s
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 1,  # else whoever is killed while it looks keeps the others from it for 5 minutes
    },
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_hijack_root_logger=False,
)
_lines = os.open(MAILING.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def tell(what: str, task_id: str) -> None:
    """Write one line; it is there although the process may be killed right after."""
    os.write(_lines, f"{what} {os.getpid()} {task_id}\n".encode())


def a_moment() -> None:
    """Do what takes a moment, to be killed in."""
    time.sleep(random.random() * MOMENT_SECONDS)


@worker_process_init.connect
def _born(**_: Any) -> None:
    tell("born", str(os.getppid()))


@celeryd_after_setup.connect
def _set_up(**_: Any) -> None:
    tell("set-up", str(os.getpid()))


@task_postrun.connect
def _end(task_id: str, state: str, **_: Any) -> None:
    tell("end" if state in {"SUCCESS", "FAILURE"} else "hop", task_id)


def _reserved(decision: Decision) -> None:
    if decision.reservation is not None:
        tell("reserved", decision.reservation.id)


def to_touch(task: Any, customer: str) -> Touch:
    """What a task's touch is; it has the task's id."""
    tell("begin", task.request.id)
    a_moment()
    return Touch(customer, channel="email", topic="newsletter")


def report(decision: Decision) -> str:
    """Name what will not be sent."""
    assert decision.touch is not None
    tell(decision.reasons[0].code, str(decision.touch.id))
    return "reported"


def send(task: Any, customer: str) -> None:
    """Send a mail."""
    a_moment()
    tell("mail", task.request.id)
    a_moment()


for kind in Mailing.KINDS:
    governor = MAILING.governor(kind)  # before the processes of the pool are forked
    governor.on_decision(_reserved)
    app.task(bind=True, name=kind)(governed(governor, to_touch, on_refused=report, spread=SPREAD)(send))
