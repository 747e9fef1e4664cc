# Each target sets up all it needs, in .venv, and is quick the second time.
# The commands that tests start by the hundred would compile everything anew, each time.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := .venv/bin/python

.PHONY: demo test test-long test-django test-django-quick test-matrix rebuilds soak fleet lint bench clean help

help:
	@echo "make demo    load real documents and records into an embedded PostgreSQL"
	@echo "make test    run the tests, on real servers (7 minutes)"
	@echo "make test-long          run those that take long (20 minutes more)"
	@echo "make test-django        run Django's own test suite on our backends (15 minutes)"
	@echo "make test-django-quick  the part of it that CI runs (3 minutes)"
	@echo "make test-matrix  settings and connections on PostgreSQL 14 to 18"
	@echo "make rebuilds  rebuild 20 times under 10 clients, with Django's ENGINEs and with ours"
	@echo "make soak    kill loads and servers at random for MINUTES (10), and check"
	@echo "make fleet   have 40 processes share a budget of connections for SECONDS (60), some killed"
	@echo "make lint    ruff, mypy, ty, import contracts"
	@echo "make bench   run the benchmarks that the docs quote"
	@echo "make clean   remove .venv, the demo's server and what tools have cached"

demo:
	@tools/setup demo
	@$(PYTHON) examples/demo.py

test:
	@tools/setup all,dev
	@tools/debian
	$(PYTHON) -m pytest -n 3 --dist worksteal -m "not long" $(TESTS)

# Those that take long: more majors of PostgreSQL, more crashes, real standbys and poolers.
test-long:
	@tools/setup all,dev
	@tools/debian long
	@tools/azurite
	$(PYTHON) -m pytest -n 2 --dist worksteal -m long $(TESTS)
	$(MAKE) rebuilds

# Django's own tests: with its ENGINE, with ours, and with ours and a schema for every app.
# JUDGE="schema.tests --modes schemas" runs only that; JUDGE="--django 4.2.*" another version.
test-django:
	@tools/setup all,dev
	@tools/debian
	$(PYTHON) -m tests.djangosuite $(JUDGE)

test-django-quick:
	@tools/setup all,dev
	@tools/debian
	$(PYTHON) -m tests.djangosuite --quick

test-matrix:
	@tools/setup all,dev
	tools/test-matrix $(MAJORS)

rebuilds:
	@tools/setup all,dev
	@tools/debian
	HOWDAH_REBUILDS=$(or $(REBUILDS),20) $(PYTHON) -m pytest --log-cli-level=INFO \
		tests/django/rebuild/test_running.py

soak:
	@tools/setup all,dev
	$(PYTHON) -m tests.soak $(or $(MINUTES),10) $(SEED)

fleet:
	@tools/setup all,dev
	$(PYTHON) -m tests.connections.fleet --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

lint:
	@tools/setup all,dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/ty check src
	.venv/bin/lint-imports --config pyproject.toml

bench:
	@tools/setup all,bench
	$(PYTHON) bench/load.py --rounds 5
	$(PYTHON) bench/peers.py --only json --records 1000000 --out docs/pictures
	$(PYTHON) bench/peers.py --only csv --records 3000000 --rounds 2 --out docs/pictures
	$(PYTHON) bench/documents.py
	$(PYTHON) bench/scaling.py --records 1000000 --rounds 1
	$(PYTHON) bench/update.py
	$(PYTHON) bench/writer.py
	for delay in 0 2 10; do $(PYTHON) bench/slow_storage.py --delay $$delay; done
	$(PYTHON) bench/forkjoin.py
	$(PYTHON) bench/budget.py
	$(PYTHON) bench/pools.py
	$(PYTHON) bench/connections.py
	$(PYTHON) bench/rebuild.py
	$(PYTHON) bench/rebuild_large.py
	$(PYTHON) bench/runner.py
	$(PYTHON) bench/orm.py

clean:
	@[ ! -x .venv/bin/howdah ] || HOWDAH_DATA=examples/.server/cluster .venv/bin/howdah server stop
	rm -rf .venv .matrix tests/djangosuite/.cache examples/.server bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
