"""Measures a workload under any settings, by the one way to change them.

What is in force is always one change away from what was before the search:
killed at any moment, it is taken back by one `howdah tune undo`.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping

from howdah import pg
from howdah.server.change import Change, apply_change, plan_change, plan_undo
from howdah.tuning.compare import Comparison, compared, quantile
from howdah.tuning.proof import REASON
from howdah.tuning.workloads import Workload, run

__all__ = ["Bench"]

_ROUNDS = 5
Values = Mapping[str, str]


class Bench:
    """A workload, and the server that it runs on.

    Args:
        conninfo: The database.
        workload: What is measured.
        seconds: How long each time.
        restarting: Settings that take a restart; none where the server may not be restarted.
    """

    def __init__(
        self, conninfo: str, workload: Workload, seconds: float, restarting: Collection[str] = ()
    ) -> None:
        self._conninfo, self._workload, self._seconds = conninfo, workload, seconds
        self._restarting = frozenset(restarting)
        self._number: int | None = None
        self._values: Values = {}
        self.restarts = 0

    def to(self, values: Values) -> None:
        """Bring the server to values, from what it had before the search."""
        if dict(values) == dict(self._values):
            return
        old, new = self._of_restart(self._values), self._of_restart(values)
        if self._number is not None:
            with pg.connect(self._conninfo, application_name="howdah tune") as conn:
                change, entry = plan_undo(conn, self._number)
                # Where the same settings get other values, one restart serves both changes.
                restart = old.keys() != new.keys()
                done = apply_change(conn, change, restart=restart, undoes=entry.number)
                self.restarts += done.restarted is not None
            self._number, self._values = None, {}
        if values:
            with pg.connect(self._conninfo, application_name="howdah tune") as conn:
                wishes = [Change(name, value) for name, value in values.items()]
                change = plan_change(conn, wishes, reason=f"{REASON} (search)")
                done = apply_change(conn, change, restart=bool(self._restarting))
                self.restarts += done.restarted is not None
            self._number, self._values = done.number, dict(values)

    def takes_restart(self, name: str) -> bool:
        """Say whether a setting takes a restart."""
        return name in self._restarting

    def _of_restart(self, values: Values) -> dict[str, str]:
        return {name: value for name, value in values.items() if self.takes_restart(name)}

    def measured(self, share: float = 1.0) -> tuple[float, float]:
        """Return rows a second, and p99 latency in seconds, under the values in force."""
        done = run(self._conninfo, self._workload, {}, seconds=self._seconds * share)
        return done.rows_per_second, quantile(done.latencies_s, 0.99)

    def in_turn(self, before: Values, after: Values) -> Comparison:
        """Compare two sets of values; whose turn is first alternates."""
        rates: dict[bool, list[float]] = {False: [], True: []}
        for number in range(_ROUNDS):
            for is_after in (False, True) if number % 2 == 0 else (True, False):
                self.to(after if is_after else before)
                rates[is_after].append(self.measured()[0])
        return compared(rates[False], rates[True])

    def worth(
        self, best: Values, without: Mapping[str, Values], rounds: int = 2
    ) -> dict[str, float]:
        """Return the rate of the best over that of each set without one of its settings."""
        rates: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, values in {"": best, **without}.items():
                self.to(values)
                rates.setdefault(name, []).append(self.measured()[0])
        top = statistics.median(rates.pop(""))
        return {name: top / statistics.median(of) for name, of in rates.items()}
