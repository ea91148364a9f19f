# `make lab` shows the whole network on this machine; `make test` runs everything. Both install what they need.
PYTEST := .venv/bin/python -m pytest
PURE := tests/test_architecture.py tests/unit tests/golden
SOURCES := schema compiler reconciler lab gitwan.py bench tests

.PHONY: help setup lab test check drill test-kernel mutants golden bench bench-kernel schema clean

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup:  ## install what is missing: Debian packages, the virtual environment
	@deploy/setup.sh

lab: setup  ## bring up the example network, ping every pair, push a change; KEEP=1 leaves it running
	@.venv/bin/gitwan lab test sites

check: setup  ## formatting, lint, types and pure tests, in about a minute
	@.venv/bin/ruff format --check -q $(SOURCES)
	@.venv/bin/ruff check -q $(SOURCES)
	@.venv/bin/mypy
	@$(PYTEST) -q -n 2 $(PURE)

test: check  ## every lane: unit, golden, contract, lab, kernel
	@$(PYTEST) tests/contract tests/drill tests/kernel tests/lab tests/test_pull_request.py

drill: setup  ## all that takes long: lock-outs, kills at every point, thousands of faults and cycles
	@GITWAN_DRILL=1 GITWAN_SEEDS=1000 GITWAN_CYCLES=1000 GITWAN_HUGE=1024 $(PYTEST) -v tests/drill tests/lab/test_bad_input.py tests/lab/test_exits.py tests/lab/test_exit_leaks.py tests/lab/test_exits_of_pia.py

test-kernel: setup  ## the drivers against a real kernel's WireGuard and bonds, in a virtual machine
	@$(PYTEST) -v tests/kernel

mutants: setup  ## plant small mistakes, one at a time, and see which the tests notice; MODULES and SAMPLE narrow it
	@.venv/bin/python -m tests.mutants $(MODULES) $(if $(SAMPLE),--sample $(SAMPLE))

golden: setup  ## write what the golden cases give now; review the diff
	@GITWAN_GOLDEN=update $(PYTEST) -q tests/golden
	@git diff --stat -- tests/golden

schema: setup  ## write the JSON Schema of the documents
	@.venv/bin/gitwan schema --out schema/json

bench: setup  ## every figure of README as a ratio, against its limit
	@.venv/bin/python -m bench

bench-kernel: setup  ## bonds, tunnels and peers on a real kernel, in a virtual machine, against their limits
	@.venv/bin/python -m bench.kernel

clean:  ## remove what the other targets made
	@.venv/bin/gitwan lab down 2>/dev/null || true
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/out *.egg-info
