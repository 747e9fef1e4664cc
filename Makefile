# Each target sets up all it needs, in .venv, and is quick the second time.
PYTHON := .venv/bin/python

.PHONY: demo test test-django test-django-quick soak lint bench clean help

help:
	@echo "make demo    load real documents and records into an embedded PostgreSQL"
	@echo "make test    run all tests, on real servers"
	@echo "make test-django        run Django's own test suite on our backends (15 minutes)"
	@echo "make test-django-quick  the part of it that CI runs (3 minutes)"
	@echo "make soak    kill loads and servers at random for MINUTES (10), and check"
	@echo "make lint    ruff, mypy, ty, import contracts"
	@echo "make bench   run the benchmarks that the docs quote"
	@echo "make clean   remove .venv, the demo's server and what tools have cached"

demo:
	@tools/setup demo
	@$(PYTHON) examples/demo.py

test:
	@tools/setup all,dev
	$(PYTHON) -m pytest -n 2 $(TESTS)

# Django's own tests: with its ENGINE, with ours, and with ours and a schema for every app.
# JUDGE="schema.tests --modes schemas" runs only that; JUDGE="--django 4.2.*" another version.
test-django:
	@tools/setup all,dev
	@tools/postgis
	$(PYTHON) -m tests.djangosuite $(JUDGE)

test-django-quick:
	@tools/setup all,dev
	@tools/postgis
	$(PYTHON) -m tests.djangosuite --quick

soak:
	@tools/setup all,dev
	$(PYTHON) -m tests.soak $(or $(MINUTES),10) $(SEED)

lint:
	@tools/setup all,dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/ty check src
	.venv/bin/lint-imports --config pyproject.toml

bench:
	@tools/setup all,bench
	$(PYTHON) bench/load.py
	$(PYTHON) bench/peers.py --out docs/pictures
	$(PYTHON) bench/documents.py
	$(PYTHON) bench/scaling.py
	$(PYTHON) bench/update.py
	$(PYTHON) bench/writer.py
	$(PYTHON) bench/forkjoin.py
	$(PYTHON) bench/rebuild.py

clean:
	@[ ! -x .venv/bin/howdah ] || HOWDAH_DATA=examples/.server/cluster .venv/bin/howdah server stop
	rm -rf .venv examples/.server bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist tests/djangosuite/.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
