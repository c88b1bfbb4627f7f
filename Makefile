# A thin front for CMake and the test runners. `make` or `make help` lists what there is.
#
#   BUILD_DIR   build folder                    (build)
#   JOBS        how many processes at once      (all processors)
#   PREFIX      where `make install` puts it    (/usr/local)    DESTDIR is honoured

SHELL := /bin/bash
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
BUILD_DIR ?= build
PYTEST = .tools/bin/python -m pytest -p no:cacheprovider tests/functional
UV = PYISOLATE_UV="$${PYISOLATE_UV:-$(CURDIR)/.tools/bin/uv}"
# gcc's ThreadSanitizer does not know the widest address layouts: run without randomization.
NO_ASLR = setarch $(shell uname -m) -R

.DEFAULT_GOAL := help
.PHONY: help setup setup-lint build demo test test-unit test-functional asan tsan coverage-build test-asan \
        test-tsan coverage bench soak fuzz lint format install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## install what is missing (Debian packages; uv, pytest and others in .tools/)
	@.ci/setup build

setup-lint:
	@.ci/setup lint

build: setup ## build/pyisolate-host, build/pyisolate-child and the core library
	@.ci/build release $(BUILD_DIR) $(JOBS)

demo: build ## run samples/quickstart
	@$(UV) $(BUILD_DIR)/pyisolate-host samples/quickstart/config.lua

test: build ## all tests: units, then the functional ones that drive the program
	@.ci/test $(BUILD_DIR)

test-unit: build
	@.ci/test $(BUILD_DIR) unit

test-functional: build
	@.ci/test $(BUILD_DIR) functional

test-asan: setup ## all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@.ci/build asan build-asan $(JOBS)
	@.ci/test build-asan

# ThreadSanitizer holds signals back from a thread that only computes: those tests cannot pass there.
test-tsan: setup ## all tests under ThreadSanitizer
	@.ci/build tsan build-tsan $(JOBS)
	@PYTEST_ARGS="$$PYTEST_ARGS --ignore=tests/functional/test_signals.py" $(NO_ASLR) .ci/test build-tsan

coverage: setup ## which lines the tests run (build-coverage/coverage.txt)
	@.ci/build coverage build-coverage $(JOBS)
	@.ci/test build-coverage
	@.ci/coverage build-coverage

fuzz: setup-lint ## every fuzzer for FUZZ_SECONDS (60)
	@.ci/fuzz $${FUZZ_SECONDS:-60}

bench: build ## our figures and our rivals' in one run: build/bench.txt
	@$(UV) tests/bench/run $(BUILD_DIR)

soak: setup-lint ## the large counts; hours. SOAK="kills starts storm environments asan tsan fuzz" picks parts
	@$(UV) tests/soak/run $${SOAK:-all}

lint: setup-lint build ## clang-format, clang-tidy, cppcheck, luacheck, ruff, mypy
	@.ci/lint $(BUILD_DIR)

format: setup-lint ## let clang-format and ruff rewrite the sources
	@clang-format -i $$(git ls-files '*.c' '*.h')
	@.tools/bin/ruff format -q $$(git ls-files '*.py')

install: ## bin/pyisolate-host, lib/pyisolate/, man page (DESTDIR, PREFIX)
	@test -e $(BUILD_DIR)/pyisolate-host || { echo "install: nothing is built; run 'make build' first" >&2; exit 1; }
	@cmake --install $(BUILD_DIR) --prefix $(PREFIX)

clean: ## remove the build folders (.tools/ stays)
	rm -rf build build-asan build-tsan build-coverage build-fuzz
