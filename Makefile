# A newcomer needs two commands, `make demo` and `make test`; each sets up .venv first, once. All others: `make help`.
# Pass arguments on with ARGS, for example: make test ARGS="-k quiet_hours -x"

BIN := .venv/bin
LOCK := pyproject.toml uv.lock requirements/test.txt requirements/dev.txt
EXPORT := export --frozen --quiet --no-hashes --no-annotate --no-emit-project --no-default-groups
# Files side by side: one more than there are processors, because many tests wait. ARGS="-n 0" runs one after the other.
SIDE_BY_SIDE = -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --dist loadfile --no-loadscope-reorder
# The newest uv at hand; only the targets that make or check the lock need it.
UV = $$(if uv --version >/dev/null 2>&1; then echo uv; else echo $(BIN)/uv; fi)

.PHONY: help demo test lint types docs wheel-test test-newest-django bench coverage lock lock-check install tools clean

help:           ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 20

demo: install   ## send real e-mails to a real SMTP server on this machine, governed
	@$(BIN)/python examples/demo.py $(ARGS)

test: install   ## run all tests, and every example of README and docs
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

lint: tools lock-check  ## check style and format, and that the lock is in step
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: tools    ## mypy --strict on src, pyright on what users see
	@$(BIN)/mypy
	@if ls tests/typing/*.py >/dev/null 2>&1; then $(BIN)/pyright; fi

docs: tools     ## build the documentation in docs/_build/html
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

wheel-test: tools  ## build the wheel and run the tests against it
	@.ci/test-wheel $(ARGS)

test-newest-django:  ## the Django integrations on the newest Django, which needs Python 3.12 or later
	@.ci/test-newest-django $(ARGS)

bench: install  ## measure speed next to the peers; ARGS="--write" refreshes docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(ARGS)

coverage: install  ## run all tests and show which branches they miss
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

lock:           ## bring uv.lock and requirements/ in step with pyproject.toml
	@$(UV) lock
	@$(UV) $(EXPORT) --group test > requirements/test.txt
	@$(UV) $(EXPORT) --group dev > requirements/dev.txt

lock-check: tools
	@$(UV) lock --check --quiet || { echo "uv.lock is not in step with pyproject.toml: make lock"; exit 1; }
	@$(UV) $(EXPORT) --group test | diff - requirements/test.txt || { echo "requirements/ is not in step with uv.lock: make lock"; exit 1; }
	@$(UV) $(EXPORT) --group dev | diff - requirements/dev.txt || { echo "requirements/ is not in step with uv.lock: make lock"; exit 1; }

install: .venv/.installed-test  ## set up .venv: the package and what its tests need
tools: .venv/.installed-dev     ## set up .venv: linters, type checkers and Sphinx as well

.venv/.installed-%: $(LOCK)
	@.ci/setup $*
	@touch $@

clean:          ## remove everything that was made
	@rm -rf .venv .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache htmlcov build dist docs/_build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
