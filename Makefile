# Each target sets up all it needs, in .venv, and is quick the second time.
PYTHON := .venv/bin/python

.PHONY: demo test test-matrix soak lint bench clean help

help:
	@echo "make demo    load real documents and records into an embedded PostgreSQL"
	@echo "make test    run all tests, on real servers"
	@echo "make test-matrix  settings and connections on PostgreSQL 14 to 18"
	@echo "make soak    kill loads and servers at random for MINUTES (10), and check"
	@echo "make lint    ruff, mypy, ty, import contracts"
	@echo "make bench   run the benchmarks that the docs quote"
	@echo "make clean   remove .venv, the demo's server and what tools have cached"

demo:
	@tools/setup all
	@$(PYTHON) examples/demo.py

test:
	@tools/setup all,dev
	$(PYTHON) -m pytest -n 2 $(TESTS)

test-matrix:
	@tools/setup all,dev
	tools/test-matrix $(MAJORS)

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
	$(PYTHON) bench/connections.py

clean:
	@[ ! -x .venv/bin/howdah ] || HOWDAH_DATA=examples/.server/cluster .venv/bin/howdah server stop
	rm -rf .venv .matrix examples/.server bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
