"""How large a pool is that was given no size: its share of the slots that are to be had.

    share = min(threads or 10, (slots - 5) // (nodes x processes)), and at least 1

as `howdah connections plan` works it out. The slots are those that the server has for an
ordinary role, or the role's or the database's CONNECTION LIMIT where that is less; under a
budget its limit, and none are kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

from howdah.connections.budget import Budget, Reservation
from howdah.connections.fleet import KEPT, Fleet, plan_fleet, workers_of
from howdah.connections.usage import Slots
from howdah.errors import Refused, UsageError

__all__ = ["Share", "Size", "divided", "size_of"]

logger = logging.getLogger(__name__)

MOST = 10
"""Connections of a pool whose threads nobody has counted."""


@dataclass(frozen=True, slots=True)
class Share:
    """All pools of a program, which divide a server's slots evenly.

    Attributes:
        nodes: Hosts or containers that run the program.
        processes: Of each node; each has one pool.
        threads: Of each process, beyond which connections are of no use; None: 10 at most.
    """

    nodes: int = 1
    processes: int = 1
    threads: int | None = None

    @classmethod
    def of_environment(cls, environ: Mapping[str, str] = os.environ) -> Share:
        """Return what HOWDAH_NODES, HOWDAH_PROCESSES and HOWDAH_THREADS say.

        Processes and threads that they leave out are gunicorn's and celery's, from
        GUNICORN_CMD_ARGS, WEB_CONCURRENCY and CELERY_CONCURRENCY.

        Raises:
            UsageError: One of them is no number.
        """
        processes, threads = workers_of(environ)
        return cls(
            _number(environ, "HOWDAH_NODES") or 1,
            _number(environ, "HOWDAH_PROCESSES") or processes,
            _number(environ, "HOWDAH_THREADS") or threads,
        )

    def __str__(self) -> str:
        return f"{self.nodes} nodes x {self.processes} processes"

    @property
    def most(self) -> int:
        """What a process can use at once."""
        return self.threads or MOST


@dataclass(frozen=True, slots=True)
class Size:
    """How many connections a pool may have, and why.

    Attributes:
        number: How many.
        origin: Where the number comes from, for people.
        share: What the server is yet to be asked for; None where the number stands.
    """

    number: int
    origin: str
    share: Share | None = None


def size_of(size: int | Share | None, reservation: Reservation | None) -> Size:
    """Return the size of a pool before it is opened.

    Args:
        size: What it was given.
        reservation: What it opens its connections under.

    Raises:
        UsageError: It is below 1, or a variable is no number.
        Refused: The reservation has less.
    """
    if isinstance(size, Share) or (size is None and reservation is None):
        fixed = _number(os.environ, "HOWDAH_POOL_SIZE") if size is None else None
        if fixed is not None:
            return Size(fixed, "HOWDAH_POOL_SIZE")
        share = size if isinstance(size, Share) else Share.of_environment()
        return Size(share.most, "not opened yet", share)
    number, origin = (size, "given") if size is not None else (0, "the reservation")
    if reservation is not None:
        number = reservation.slots if size is None else number
        if number > reservation.slots:
            raise Refused(
                f"A pool of {number} does not fit in a reservation of {reservation.slots} slots.",
                next_step=f"Reserve {number}, or give size={reservation.slots}.",
            )
    if number < 1:
        raise UsageError(f"A pool of {number} connections is none.", next_step="Give 1 or more.")
    return Size(number, origin)


def divided(share: Share, slots: Slots | Budget, name: str) -> Size:
    """Return one pool's share.

    Args:
        share: The pools.
        slots: What the server has, or the budget that the pools share.
        name: The pool's, for the log.
    """
    if isinstance(slots, Budget):
        known, kept, where = slots.limit, 0, f"in the budget {slots.name!r}"
    else:
        known, kept = slots.plannable, KEPT
        where = f"for the role {slots.role}"
    fleet = Fleet(share.nodes, share.processes, share.most, 0, share.most)
    plan = plan_fleet(fleet, max(1, known), kept=kept)
    origin = f"{plan.available} slots {where}, divided by {share}, {share.most} at most"
    if plan.fitting_pool == 0:
        logger.warning(
            "pool %r: %s are more pools than there are slots, so that some will not connect; "
            "a pooler is due: howdah connections plan",
            name,
            share,
        )
    return Size(max(1, plan.fitting_pool), origin)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(
            f"{name} is {text!r}, not a number from 1.",
            next_step="Take it from: howdah connections plan",
        )
    return int(text)
