from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress

import psycopg
import pytest

import howdah
from howdah.connections import budgets as registry
from howdah.connections.control import close_all
from howdah.errors import NoDatabase, Refused, UsageError
from tests.connections.conftest import until


def asked(budget, slots, done, **options):
    """Reserve in a thread; note the slots when they are held, and hold them until told."""
    over = threading.Event()

    def work():
        with budget.reserve(slots, **options):
            done.append(slots)
            over.wait()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, over


def end(*asked):
    for thread, over in asked:
        over.set()
        thread.join(10)
        assert not thread.is_alive()


def wait_for_line(budget, length):
    until(lambda: len(budget.use().line) == length)


def test_slots_are_held_in_the_block_and_free_after_it(budget):
    with budget.reserve(20, purpose="import"):
        use = budget.use()
        assert (use.held, use.limit) == (20, 60)
        (holder,) = use.holders
        assert (holder.slots, holder.purpose, holder.process) == (20, "import", os.getpid())
        assert not holder.lost

    assert budget.use().held == 0


def test_what_does_not_fit_is_not_given_in_part(budget):
    with budget.reserve(50), pytest.raises(howdah.BudgetTimeout):
        budget.reserve(20, timeout_s=0.1)
    assert budget.use().held == 0


def test_who_waits_in_vain_is_told_who_holds_what_and_who_is_before_it(budget):
    done = []
    with budget.reserve(50, purpose="nightly import"):
        first = asked(budget, 40, done, purpose="report")
        wait_for_line(budget, 1)
        with pytest.raises(howdah.BudgetTimeout) as caught:
            budget.reserve(20, timeout_s=0)

    text = str(caught.value)
    assert "20 slots of the budget 'etl' were not to be had" in text
    assert f"50 by process {os.getpid()}" in text
    assert "(nightly import)" in text
    assert "in line: 40 by" in text
    assert "howdah budget watch etl" in text
    end(first)


def test_small_requests_do_not_overtake_a_large_one(budget):
    done = []
    holder = budget.reserve(30)
    large = asked(budget, 60, done)
    wait_for_line(budget, 1)
    small = []
    for length in (2, 3, 4):
        small.append(asked(budget, 5, done))
        wait_for_line(budget, length)
    assert done == []

    holder.release()
    until(lambda: done)
    assert done == [60]
    end(large)
    until(lambda: len(done) == 4)
    assert done == [60, 5, 5, 5]
    end(*small)


def test_large_requests_are_served_in_turn_with_small_ones_by_age(budget):
    done, holder, all_asked = [], budget.reserve(60), []
    for length, slots in enumerate((20, 5, 20, 5, 15), 1):
        all_asked.append(asked(budget, slots, done))
        wait_for_line(budget, length)
    assert [one.slots for one in budget.use().line] == [20, 5, 20, 5, 15]

    holder.release()
    until(lambda: len(done) == 4)
    assert sorted(done) == [5, 5, 20, 20]
    end(*all_asked)


def test_higher_priority_goes_first_and_equals_by_age(budget):
    done, holder = [], budget.reserve(60)
    all_asked = []
    for length, (slots, priority) in enumerate([(60, 0), (59, 0), (58, 5)], 1):
        all_asked.append(asked(budget, slots, done, priority=priority))
        wait_for_line(budget, length)

    holder.release()
    for expected in ([58], [58, 60], [58, 60, 59]):
        until(lambda expected=expected: done == expected)
        end(all_asked[{58: 2, 60: 0, 59: 1}[expected[-1]]])


def test_more_than_the_budget_is_refused_at_once(budget):
    with pytest.raises(Refused, match="61 connections never fit in the budget 'etl' of 60"):
        budget.reserve(61)
    assert budget.use().line == ()


def test_higher_limit_lets_those_in_who_wait(budget, dsn):
    done = []
    with budget.reserve(60):
        waiting = asked(budget, 10, done)
        wait_for_line(budget, 1)
        with psycopg.connect(dsn, autocommit=True) as conn:
            registry.set_limit(conn, "etl", 70)
        until(lambda: done)
        assert budget.use().held == 70
        end(waiting)


def test_lower_limit_takes_nothing_away_and_refuses_what_never_fits(budget, dsn):
    refused = []

    def ask():
        try:
            budget.reserve(50)
        except Refused as exc:
            refused.append(str(exc))

    with budget.reserve(40):
        thread = threading.Thread(target=ask)
        thread.start()
        wait_for_line(budget, 1)
        with psycopg.connect(dsn, autocommit=True) as conn:
            registry.set_limit(conn, "etl", 30)
        thread.join(10)
        assert budget.use().held == 40
        with pytest.raises(howdah.BudgetTimeout):
            budget.reserve(1, timeout_s=0.1)
    assert "50 connections never fit" in refused[0]
    budget.reserve(30, timeout_s=5).release()


def test_the_stored_limit_wins_over_the_one_in_code(dsn, budget):
    assert budget.limit == 60
    assert howdah.Budget("etl", 5, dsn=dsn).limit == 60


def test_budgets_of_other_names_are_apart(budget, dsn):
    other = howdah.Budget("web", 10, dsn=dsn)
    with budget.reserve(60), other.reserve(10, timeout_s=0):
        assert other.use().held == 10


def test_missing_budget_without_a_limit_is_told(dsn):
    with pytest.raises(UsageError, match="There is no budget 'nothing'") as caught:
        howdah.Budget("nothing", dsn=dsn).reserve(1)
    assert "howdah budget set nothing N" in (caught.value.next_step or "")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda dsn: howdah.Budget("etl", 0, dsn=dsn), "0 slots"),
        (lambda dsn: howdah.Budget("etl", 5, dsn=dsn, lost_after_s=1), "less than 2"),
        (lambda dsn: howdah.Budget("etl", 5, dsn=dsn).reserve(0), "0 slots"),
    ],
)
def test_senseless_arguments_are_refused(dsn, make, message):
    with pytest.raises(UsageError, match=message):
        make(dsn)


def test_unreachable_arbiter_is_told():
    budget = howdah.Budget("etl", 5, dsn="host=127.0.0.1 port=1 connect_timeout=2")
    with pytest.raises(NoDatabase, match="does not answer"):
        budget.reserve(1)


def test_many_threads_of_a_process_share_one_control_connection(budget, ask):
    with budget.reserve(10):
        done = []
        all_asked = [asked(budget, 1, done) for _ in range(10)]
        until(lambda: len(done) == 10)
        assert ask(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'howdah budget %'"
        ) == [1]
        assert budget.use().controls == 1
        end(*all_asked)


def test_connections_under_a_reservation_are_bounded_by_it(budget, backends):
    with budget.reserve(3) as reservation:
        conns = [reservation.connect(application_name="job") for _ in range(3)]
        assert (backends(), reservation.open) == (3, 3)
        with pytest.raises(Refused, match="3 slots, and as many connections"):
            reservation.connect()
        conns[0].close()
        again = reservation.connect(application_name="job")
        assert backends() == 3
        assert budget.use().holders[0].backends == 3
        assert again.execute("SELECT 1").fetchone() == (1,)

    assert backends() == 0
    with pytest.raises(Refused, match="given back"):
        reservation.connect()


def test_a_closed_connection_counts_until_its_backend_is_gone(budget, backends):
    with budget.reserve(2) as reservation:
        for _ in range(30):
            conns = [reservation.connect(application_name="job") for _ in range(2)]
            assert backends() == 2  # never three: the old ones have ended
            for conn in conns:
                conn.close()


def test_slots_are_free_when_the_last_backend_has_ended(budget, backends):
    reservation = budget.reserve(60)
    conn = reservation.connect(autocommit=True, application_name="job")
    working = threading.Thread(target=lambda: swallow(conn, "SELECT pg_sleep(3)"))
    working.start()
    until(lambda: reservation.open)
    time.sleep(0.1)
    reservation.release()  # closes it while the server works

    budget.reserve(60, timeout_s=10).release()
    assert backends() == 0
    working.join()


def swallow(conn, query):
    with suppress(psycopg.Error):
        conn.execute(query)


def test_connections_may_be_to_another_database_of_the_server(budget, server):
    with budget.reserve(2) as reservation:
        conn = reservation.connect(server.conninfo("postgres"))
        assert conn.info.dbname == "postgres"
        assert budget.use().holders[0].backends == 1


def test_a_reservation_belongs_to_its_process(budget):
    with budget.reserve(2) as reservation:
        pid = os.fork()
        if pid == 0:
            try:
                reservation.connect()
            except UsageError:
                reservation.release()  # does nothing here
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert budget.use().held == 2
        reservation.connect().close()


def test_a_forked_process_reserves_for_itself(budget):
    with budget.reserve(40):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with budget.reserve(20, timeout_s=5):
                    code = 7 if budget.use().controls == 2 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_tasks_reserve_without_keeping_the_loop(budget):
    async def main():
        beats = 0

        async def beat():
            nonlocal beats
            while True:
                await asyncio.sleep(0.01)
                beats += 1

        beating = asyncio.create_task(beat())
        async with await budget.reserve_async(60) as reservation:
            conn = await reservation.connect_async()
            assert await (await conn.execute("SELECT 1")).fetchone() == (1,)
            before = beats
            with pytest.raises(howdah.BudgetTimeout, match="60 of 60 are held"):
                await budget.reserve_async(1, timeout_s=0.3)
            assert beats - before > 5
        beating.cancel()

    asyncio.run(main())
    assert budget.use().held == 0


def test_cancelled_tasks_leave_the_line(budget):
    async def main():
        async with await budget.reserve_async(60):
            waiting = asyncio.create_task(budget.reserve_async(5))
            await asyncio.to_thread(wait_for_line, budget, 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.to_thread(wait_for_line, budget, 0)

    asyncio.run(main())
    assert budget.use().held == 0


def test_interrupted_waiting_leaves_the_line(budget, python, dsn):
    with budget.reserve(60):
        process = python(
            """
            import signal, sys, howdah
            # Where the tests run in the background, Ctrl-C's signal is ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                howdah.Budget("etl", dsn=sys.argv[1]).reserve(5)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
                sys.stdin.read()
            """,
            dsn,
        )
        wait_for_line(budget, 1)
        process.send_signal(2)
        assert process.stdout.readline() == "interrupted\n"
        assert budget.use().line == ()


def test_interrupted_at_any_moment_leaves_nothing(budget, python, dsn):
    with budget.reserve(58), budget.reserve(1) as kept:
        process = python(
            """
            import signal, sys, howdah

            def interrupt(*_):
                raise KeyboardInterrupt

            signal.signal(signal.SIGALRM, interrupt)
            budget = howdah.Budget("etl", dsn=sys.argv[1])
            for slots in (1, 5):  # one is granted at once, five have to wait
                for step in range(1, 100):
                    held = None
                    try:
                        signal.setitimer(signal.ITIMER_REAL, step / 10_000)
                        held = budget.reserve(slots)
                        signal.setitimer(signal.ITIMER_REAL, 0)
                    except KeyboardInterrupt:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                    if held is not None:
                        held.release()
                    use = budget.use()
                    if use.held != 59 or use.line:
                        print(slots, step, use, flush=True)
            print("done", flush=True)
            """,
            dsn,
        )
        assert process.stdout.readline() == "done\n"
        with kept.connect() as conn:  # and what others hold is theirs
            conn.execute("SELECT 1")


def test_plain_roles_share_a_budget_that_is_granted_to_them(server, dsn, ask):
    database = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    for role in ("howdah_one", "howdah_two"):
        ask(f"DROP ROLE IF EXISTS {role}")
        ask(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    as_role = {
        role: psycopg.conninfo.make_conninfo(
            f"host=127.0.0.1 port={server.port} dbname={database}", user=role, password="x"
        )
        for role in ("howdah_one", "howdah_two")
    }
    try:
        with pytest.raises(Refused, match="may not use the budgets") as caught:
            howdah.Budget("etl", 60, dsn=as_role["howdah_one"]).reserve(1)
        assert "--grant howdah_one" in (caught.value.next_step or "")

        with psycopg.connect(dsn, autocommit=True) as conn:
            registry.set_limit(conn, "etl", 60, ["howdah_one"])
            with (
                psycopg.connect(as_role["howdah_two"], autocommit=True) as other,
                pytest.raises(Refused, match="role howdah_two may not use the budgets"),
            ):
                registry.budgets(other)
            registry.set_limit(conn, "etl", 60, ["howdah_two"])
        one = howdah.Budget("etl", dsn=as_role["howdah_one"])
        two = howdah.Budget("etl", dsn=as_role["howdah_two"])
        with one.reserve(40), pytest.raises(howdah.BudgetTimeout, match="40 by process"):
            two.reserve(30, timeout_s=0.1)
        two.reserve(60, timeout_s=5).release()
    finally:
        close_all()
        for role in ("howdah_one", "howdah_two"):
            ask(f"DROP OWNED BY {role}")
            ask(f"DROP ROLE {role}")
