"""Real documents through a real load: the facts that other tools found, and damaged copies.

`HOWDAH_CORPUS=FOLDER` checks another folder with a MANIFEST.tsv (columns file,
fact, expected) instead of the one in the repository.

`HOWDAH_SOAK_COPIES=N` makes N copies with changed bytes of each document, not 8:
some hundreds take minutes.
"""

from __future__ import annotations

import csv
import os
import random
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import howdah
from tests.loading import scripted

EXAMPLES = Path(__file__).parents[2] / "examples" / "documents"
DOCUMENTS = Path(__file__).parents[1] / "data" / "documents"
CORPUS = Path(os.environ.get("HOWDAH_CORPUS", DOCUMENTS)).resolve()
COPIES = int(os.environ.get("HOWDAH_SOAK_COPIES", "8"))

with (CORPUS / "MANIFEST.tsv").open(newline="") as manifest:
    ROWS = list(csv.DictReader(manifest, delimiter="\t"))
FILES = sorted({(CORPUS / row["file"]).resolve() for row in ROWS})

ATTRIBUTES = "SELECT attributes FROM documents WHERE source = %s ORDER BY record"
PROPERTIES = "SELECT properties FROM howdah.sources WHERE name = %s"
EMPTY = "FROM howdah.sources WHERE finished AND records + rejects = 0 AND members = 0"
REJECTS = "SELECT reason FROM howdah.rejects WHERE source = %s"


@pytest.fixture(scope="module")
def loaded(server) -> Callable[..., list[Any]]:
    """Load the whole corpus, and return what asks the table."""
    name = f"corpus_{secrets.token_hex(6)}"
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    howdah.load(FILES, dsn=server.conninfo(name))

    def ask(query: str, *values: object) -> list[Any]:
        with psycopg.connect(server.conninfo(name)) as conn:
            return [value for (value,) in conn.execute(query, values).fetchall()]

    return ask


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text))


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r["fact"]], ids=lambda r: f"{Path(r['file']).name}-{r['fact']}"
)
def test_fact_that_another_tool_found_is_in_the_table(loaded, row):
    path = str((CORPUS / row["file"]).resolve())
    records = loaded(ATTRIBUTES, path)
    fact, expected = row["fact"], row["expected"]
    first = records[0] if records and isinstance(records[0], dict) else {}
    if fact == "kind":
        assert (records, len(loaded(REJECTS, path))) == ([], 1), expected
    elif fact == "rows":
        assert len(records) == int(expected)
    elif fact == "contains":
        assert words(expected) in words(first["text"])
    elif fact in {"subject", "from"}:
        assert first["metadata"][fact] == expected
    else:
        [own] = loaded(PROPERTIES, path)  # of a source whose records are rows
        value = (first if own is None else own)[fact]
        values = value if isinstance(value, list) else [value]
        assert expected in map(str, values)


def test_every_file_is_a_record_or_a_reject(loaded):
    ends = set(loaded("SELECT source FROM documents UNION SELECT source FROM howdah.rejects"))
    ends |= {source.partition("!/")[0] for source in ends}
    empty = loaded(f"SELECT name {EMPTY}")

    assert {str(path) for path in FILES} <= ends | set(empty)


def damaged(data: bytes, chance: random.Random) -> list[bytes]:
    """Return copies of a file that are cut off at three places, and with changed bytes."""
    copies = [data[: int(len(data) * share)] for share in (0.2, 0.6, 0.98)]
    for _ in range(COPIES):
        changed = bytearray(data)
        for _ in range(chance.choice([1, 8, 64])):
            changed[chance.randrange(len(changed))] ^= chance.randrange(1, 256)
        copies.append(bytes(changed))
    return copies


def test_damaged_documents_end_as_records_or_rejects(dsn, ask, tmp_path, record_property):
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    print("seed", seed)  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)
    folder = tmp_path / "in"
    folder.mkdir()
    originals = [p for p in (*FILES, *EXAMPLES.rglob("*")) if p.is_file() and p.stat().st_size]
    for number, path in enumerate(sorted(set(originals))):
        for copy, data in enumerate(damaged(path.read_bytes(), chance)):
            (folder / f"{number:03}-{copy}-{path.name}").write_bytes(data)

    done = scripted.load(
        tmp_path / "site",
        dsn,
        folder,
        setup="import howdah.loading.rounds as rounds; rounds.TIME_LIMIT_S = 20.0",
        timeout_s=60 + 60 * COPIES,
    )

    assert done.exit_code == 3, done.errors
    assert "Traceback" not in done.errors
    finished = ask("SELECT name FROM howdah.sources WHERE finished")
    assert {name.partition("!/")[0] for name in finished} == {str(p) for p in folder.iterdir()}
    # A table may have lost all that is below its first row, a document is something or nothing.
    assert ask(f"SELECT name {EMPTY} AND cut = 'document'") == []
    assert ask("SELECT count(*) FROM documents") == [done.report["records"]]
    assert ask("SELECT count(*) FROM howdah.rejects") == [done.report["rejects"]]
