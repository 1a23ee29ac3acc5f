# The everyday commands. Everything they need lives in .venv and build/, both made here.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test slow check asan bench coverage docs fuzz fuzz-long native wheel clean FORCE

VENV := .venv
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 60
# Tests run the installed package: neither a path of the caller's nor the current directory (PYTHONSAFEPATH) may
# slip the source tree in front of it, in pytest or in the programs that tests start.
unexport PYTHONPATH PYTHONHOME
# pytest compiles every test module, and all of a package with a plug-in, in each of its processes unless it may keep them.
unexport PYTHONDONTWRITEBYTECODE
# The tests become root of a user namespace, so /tmp/pytest-of-root may be somebody else's: their files stay here.
PYTEST = PYTHONSAFEPATH=1 $(BIN)/pytest --basetemp=build/pytest-$@
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# meson, ninja and cffi-gen-src come from the virtual environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# $(call quietly,LOG,COMMAND): what a command prints goes to a file, and is shown when it fails.
quietly = mkdir -p $(dir $(1)) && { $(2); } >$(1) 2>&1 || { cat $(1); echo "make: failed: see $(1)" >&2; exit 1; }

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(VENV)/.installed ## show the main jobs on real traffic between two private hosts
	@$(BIN)/rawkit demo

test: $(VENV)/.installed ## run every test against the installed package
	@RAWKIT_TEST_INSTALLED=1 $(PYTEST) -n 4 --dist loadfile $(PYTEST_ARGS)

slow: $(VENV)/.installed ## run the tests that `make test` leaves out: more packets beside tshark, wheels, scapy's scripts
	@RAWKIT_TEST_INSTALLED=1 $(PYTEST) -n 2 -m slow -o faulthandler_timeout=900 $(PYTEST_ARGS)

check: $(VENV)/.checkers $(VENV)/.installed ## formatting, lint, types (mypy; the examples in tests by pyright too), direction of imports
	@$(BIN)/ruff format --check --quiet . || { echo "make: run $(BIN)/ruff format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@RAWKIT_TEST_INSTALLED=1 $(PYTEST) -q tests/test_imports.py tests/wire/test_typing.py

# The extension that Python loads is instrumented, Python is not: the sanitizers' libraries go first into the
# process, and leaks are not looked for, because the interpreter leaves some at exit.
ASAN := build/asan
ASAN_ENV = ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)"
asan: $(VENV)/.installed ## C tests and the engine's Python tests under address and undefined-behaviour sanitizers
	@command -v gcc >/dev/null || { echo "make: 'make asan' needs gcc (Debian: build-essential)" >&2; exit 1; }
	@$(call quietly,$(ASAN).log,{ test -f $(ASAN)/build.ninja || CC=gcc meson setup $(ASAN) -Dtests=true \
		-Dbuildtype=debugoptimized -Db_sanitize=address$(comma)undefined -Db_lundef=false; } && ninja -C $(ASAN))
	@UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 meson test -C $(ASAN) --no-rebuild --print-errorlogs
	@rm -rf $(ASAN)/tree && mkdir -p $(ASAN)/tree && cp -r rawkit $(ASAN)/tree/ \
		&& cp $(ASAN)/csrc/_*.abi3.so $(ASAN)/tree/rawkit/
	@$(ASAN_ENV) PYTHONPATH=$(CURDIR)/$(ASAN)/tree $(PYTEST) -q tests/engine \
		tests/wire/test_fields.py $(addprefix tests/pcap/test_,torture.py batches.py batch_writing.py)
comma := ,

bench: $(VENV)/.installed ## measure against the peers; one table for all scripts in benchmarks/
	@$(BIN)/python benchmarks $(BENCH)

docs: $(VENV)/.installed ## write docs/protocols from the header classes, and the tutorial's figures
	@$(BIN)/rawkit protocols --write docs/protocols
	@$(BIN)/python docs/figures/make.py

fuzz: $(VENV)/.ready ## fuzz what reads octets in C, FUZZ_SECONDS (60) for each target; needs clang
	@command -v clang >/dev/null || { echo "make: 'make fuzz' needs clang (Debian: clang)" >&2; exit 1; }
	@$(call quietly,build/fuzz.log,{ test -f build/fuzz/build.ninja || CC=clang meson setup build/fuzz -Dfuzz=true \
		-Dbuildtype=debugoptimized; } && ninja -C build/fuzz)
	@set -e; for target in build/fuzz/csrc/fuzz_*; do test -x "$$target" -a -f "$$target" || continue; \
		name=$${target##*/}; log=build/$$name.log; mkdir -p build/corpus/$$name; \
		$$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -artifact_prefix=build/ build/corpus/$$name \
			$$(ls -d csrc/fuzz/corpus/$${name#fuzz_} 2>/dev/null) >$$log 2>&1 \
			|| { tail -n 50 $$log; echo "make: $$name found something: see $$log" >&2; exit 1; }; \
		echo "$$name: $$(sed -n 's/^stat::number_of_executed_units: *//p' $$log) inputs in $(FUZZ_SECONDS) s, no fault"; done

fuzz-long: ## fuzz ten minutes for each target, as a nightly run does
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=600

# Lines of the engine that are reached by the C tests and by the Python tests of the rooms that call it. Python
# runs with the instrumented module in a copy of the tree, as under `make asan`.
COVERAGE := build/coverage
COVERAGE_MIN ?= 90
coverage: $(VENV)/.installed ## how many lines of C the tests reach; fails below COVERAGE_MIN (90) percent
	@command -v gcov >/dev/null || { echo "make: 'make coverage' needs gcov (Debian: build-essential)" >&2; exit 1; }
	@$(call quietly,$(COVERAGE).log,{ test -f $(COVERAGE)/build.ninja || CC=gcc meson setup $(COVERAGE) -Dtests=true \
		-Dbuildtype=debug -Db_coverage=true; } && ninja -C $(COVERAGE) && find $(COVERAGE) -name '*.gcda' -delete)
	@meson test -C $(COVERAGE) --no-rebuild --print-errorlogs >$(COVERAGE).tests.log 2>&1 \
		|| { cat $(COVERAGE).tests.log; exit 1; }
	@rm -rf $(COVERAGE)/tree && mkdir -p $(COVERAGE)/tree && cp -r rawkit $(COVERAGE)/tree/ \
		&& cp $(COVERAGE)/csrc/_*.abi3.so $(COVERAGE)/tree/rawkit/
	@PYTHONPATH=$(CURDIR)/$(COVERAGE)/tree $(PYTEST) -q tests/engine tests/bulk tests/pcap \
		tests/wire/test_fields.py
	@$(BIN)/python csrc/coverage.py $(COVERAGE) $(COVERAGE_MIN)

native: $(VENV)/.ready ## build the C engine into rawkit/, so that the source tree runs as it is
	@$(call quietly,build/native.log,{ test -f build/native/build.ninja || meson setup build/native; } \
		&& ninja -C build/native)
	@for module in _native _fields; do cp build/native/csrc/$$module.abi3.so rawkit/$$module.tmp \
		&& mv rawkit/$$module.tmp rawkit/$$module.abi3.so || exit 1; done

wheel: $(VENV)/.ready ## build a wheel into dist/
	@$(call quietly,build/wheel.log,$(BIN)/pip wheel --no-build-isolation --no-deps -Cbuild-dir=build/wheel -w dist .)
	@ls -1t dist/*.whl | head -n 1

clean: ## remove what was built; .venv stays
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis rawkit/_*.abi3.so
	@find rawkit tests examples benchmarks csrc -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -f $(VENV)/.installed

# ---- the virtual environment ---------------------------------------------------------------------------------

# The first Python that is new enough and complete; what the best one lacks is said otherwise.
$(BIN)/python:
	@best=; for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		best=$${best:-$$python}; \
		$$python -c 'import ensurepip, venv' 2>/dev/null || continue; \
		$$python -c 'import os, sys, sysconfig; \
			sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || continue; \
		found=$$python; break; \
	done; \
	lacks() { echo "make: $$1 (Debian: apt install $$2)" >&2; exit 1; }; \
	test -n "$$best" || lacks "no Python of at least version 3.11 found" python3; \
	if test -z "$$found"; then \
		$$best -c 'import ensurepip, venv' 2>/dev/null || lacks "$$best cannot make virtual environments" python3-venv; \
		lacks "$$best has no Python.h to build the C engine with" python3-dev; \
	fi; \
	command -v $${CC:-cc} >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null \
		|| lacks "no C compiler found" build-essential; \
	echo "make: making $(VENV) with $$found" >&2; rm -rf $(VENV); $$found -m venv $(VENV)

# Not compiled: what of it is used is compiled when it is first imported, and of some packages that is little.
$(VENV)/.ready: pyproject.toml | $(BIN)/python
	@echo "make: installing build and test tools into $(VENV)" >&2
	@$(call quietly,build/tools.log,$(BIN)/python -m pip install --upgrade 'pip>=25.1' \
		&& $(BIN)/python -m pip install --no-compile --group test)
	@touch $@

$(VENV)/.checkers: pyproject.toml $(VENV)/.ready
	@echo "make: installing ruff, mypy and pyright into $(VENV)" >&2
	@$(call quietly,build/checkers.log,$(BIN)/python -m pip install --group dev)
	@touch $@

sources := $(shell find rawkit csrc meson.build meson.options pyproject.toml README.md LICENSE -type f \
	-not -path '*/__pycache__/*' -not -name '_native.*' -not -name '_fields.*' -not -path 'csrc/tests/*' -not -path 'csrc/fuzz/*')

# The list of sources, rewritten only when it changes: a file that went away is a change too.
build/sources.txt: FORCE
	@mkdir -p build; echo $(sources) | tr ' ' '\n' | sort | cmp -s - $@ || echo $(sources) | tr ' ' '\n' | sort >$@

$(VENV)/.installed: $(VENV)/.ready build/sources.txt $(sources)
	@echo "make: building rawkit and installing it into $(VENV)" >&2
	@$(call quietly,build/install.log,$(BIN)/python -m pip install --no-build-isolation -Cbuild-dir=build/wheel .)
	@touch $@
