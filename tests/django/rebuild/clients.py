"""A running application: clients that read and write all the time, until standard input ends.

Prints one JSON object: for each client its statements, its errors, its longest
stall in seconds, and the generations of the data that it has read.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import psycopg

import django

sys.path.insert(0, ".")
django.setup()

from django.db import connections, transaction  # noqa: E402

MAIN = os.environ["DEPOT_DATABASE"]
GEO = os.environ["DEPOT_GEO_DATABASE"]
done = threading.Event()


@dataclass
class Client:
    name: str
    statements: int = 0
    longest_s: float = 0.0
    errors: list[str] = field(default_factory=list)
    generations: list[str] = field(default_factory=list)

    def timed(self, call: Callable[[], object]) -> object:
        started = time.perf_counter()
        result = call()
        self.longest_s = max(self.longest_s, time.perf_counter() - started)
        self.statements += 1
        return result

    def saw(self, generation: str) -> None:
        if not self.generations or self.generations[-1] != generation:
            self.generations.append(generation)


def orm_reader(client: Client) -> None:
    from catalog.models import Product, Vendor
    from licensing.models import Licence

    def read() -> None:
        client.saw(Vendor.objects.get(pk=1).name)
        assert len(Product.objects.select_related("vendor", "category")[:20]) == 20
        assert Licence.objects.filter(customer__user__username__startswith="user").count() >= 150

    client.timed(read)


def orm_writer(client: Client) -> None:
    """Transactions over three schemas, with foreign keys between what they insert."""
    from catalog.models import Product, Vendor
    from licensing.models import Activation, Customer, Invoice, Licence

    def write() -> None:
        with transaction.atomic(using="data"):
            client.saw(Vendor.objects.get(pk=1).name)
            vendor = Vendor.objects.create(name=f"v{random.random()}", country="NO")
            product = Product.objects.create(
                vendor=vendor, category_id=1, code=f"{random.randrange(10**12)}", name="x", price=1
            )
            licence = Licence.objects.create(
                customer=Customer.objects.get(pk=1), product=product, starts="2024-01-01"
            )
            Activation.objects.create(licence=licence, address="192.0.2.1", at="2024-01-01T00:00Z")
            number = f"{random.randrange(10**12)}"
            Invoice.objects.create(customer_id=1, number=number, issued="2024-01-01")

    client.timed(write)


def orm_auth(client: Client) -> None:
    from django.contrib.auth.models import User
    from oauth2_provider.models import Application

    def read() -> None:
        user = User.objects.get(username="user1")
        assert user.is_superuser
        assert user.has_perm("catalog.add_product")
        User.objects.filter(pk=2).update(first_name=f"{random.random()}")
        assert Application.objects.count() == 5

    client.timed(read)


def orm_places(client: Client) -> None:
    from places.models import Region, Site

    def read() -> None:
        assert Region.objects.filter(boundary__isvalid=True).count() == 20
        assert Site.objects.select_related("region").count() >= 60
        Region.objects.filter(pk=1).update(name=f"Region {random.random()}")

    client.timed(read)


def prepared(client: Client, conn: psycopg.Connection) -> None:
    query = "SELECT v.name, p.price FROM catalog.product p JOIN catalog.vendor v ON v.id = %s"

    def read() -> None:
        rows = conn.execute(query, [1], prepare=True).fetchall()
        client.saw(rows[0][0])
        update = "UPDATE licensing.licensing_customer SET company = %s WHERE id = %s"
        conn.execute(update, ["c", 3], prepare=True)

    client.timed(read)


def report(client: Client, conn: psycopg.Connection) -> None:
    """A long query: slow enough to run across a swap."""
    query = (
        "SELECT count(*), max(pg_sleep(0.002)::text) FROM licensing.licensing_licence l"
        " JOIN licensing.licensing_activation a ON a.licence_id = l.id"
    )
    conn.execute(query)
    client.statements += 1


def cursor(client: Client, conn: psycopg.Connection) -> None:
    """A server-side cursor, read across a swap."""
    with conn.transaction(), conn.cursor("rows") as named:
        named.execute("SELECT id, name FROM catalog.product ORDER BY id")
        rows = 0
        while batch := named.fetchmany(10):
            rows += len(batch)
            time.sleep(0.02)
        assert rows >= 120
    client.statements += 1


def listener(client: Client, conn: psycopg.Connection) -> None:
    """Hears every notice it sends itself."""
    if not client.statements:
        conn.execute("LISTEN depot")
    text = str(client.statements)

    def hear() -> None:
        conn.execute("SELECT pg_notify('depot', %s)", [text])
        heard = [notice.payload for notice in conn.notifies(timeout=5, stop_after=1)]
        assert heard == [text], heard

    client.timed(hear)


def elsewhere(client: Client, conn: psycopg.Connection) -> None:
    """As many statements as a writer's, where nothing is rebuilt: the machine's own stalls."""

    def write() -> None:
        with conn.transaction():
            for _ in range(6):
                conn.execute("SELECT count(*) FROM pg_catalog.pg_class")

    client.timed(write)


def run(client: Client, work: Callable[[Client], None]) -> None:
    while not done.is_set():
        try:
            work(client)
        except Exception as exc:  # noqa: BLE001 - each error of any kind counts
            client.errors.append(f"{type(exc).__name__}: {exc}")
            for connection in connections.all():
                if connection.connection and connection.connection.broken:
                    connection.close()
        time.sleep(0.02)


def main() -> None:
    works: list[tuple[str, Callable[[Client], None]]] = []
    works += [(f"orm reader {n}", orm_reader) for n in range(2)]
    works += [(f"orm writer {n}", orm_writer) for n in range(2)]
    works += [("orm auth", orm_auth)]
    if "geo" in connections.databases:
        works += [("orm places", orm_places)]
    raw = {"prepared": prepared, "report": report, "cursor": cursor, "listener": listener}
    for name, work in raw.items():
        conn = psycopg.connect(dbname=MAIN, autocommit=True)
        works.append((name, lambda client, work=work, conn=conn: work(client, conn)))
    other = psycopg.connect(dbname="postgres", autocommit=True)
    works.append(("elsewhere", lambda client: elsewhere(client, other)))
    clients = [Client(name) for name, _ in works]
    threads = [
        threading.Thread(target=run, args=(client, work))
        for client, (_, work) in zip(clients, works, strict=True)
    ]
    for thread in threads:
        thread.start()
    print("running", flush=True)
    sys.stdin.read()
    done.set()
    for thread in threads:
        thread.join()
    print(json.dumps([asdict(client) for client in clients]))


if __name__ == "__main__":
    main()
