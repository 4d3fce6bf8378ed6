# What people run. `make` alone lists it.
PYTHON3 ?= python3
BIN := .venv/bin
BASE := $(PYTHON3) scripts/bootstrap.py
export OPENBLAS_NUM_THREADS ?= 1
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup run demo viewer test unit test-viewer check bench bench-workflow bench-find bench-ingest bench-dicomweb bench-results chaos conformance gallery clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## make .venv with the node and what its development needs
	@$(BASE) dev

run: ## start the node on its embedded defaults
	@$(BASE)
	@$(BIN)/dicom-node up

demo: ## the main job in one command; FROM=folder takes real files, KEEP=1 leaves the node up
	@$(BASE)
	@$(BIN)/dicom-node demo $(if $(FROM),--from "$(FROM)") $(if $(KEEP),--keep)

viewer: ## add the OHIF viewer to the node (an npm package, 50 MB); FROM=file takes it from there, REGISTRY=address asks there
	@$(BASE)
	@$(BIN)/python -m dicomweb.viewer.package $(if $(FROM),--from "$(FROM)") $(if $(REGISTRY),--registry "$(REGISTRY)")

test: setup ## all tests; installs independent peers where it may
	@scripts/test_tools.sh
	@$(BIN)/python -m dicomweb.viewer.package --to build/viewer || echo "The tests that look at the viewer are reported as not run." >&2
	@$(BIN)/python -m pytest -n 2 --dist loadgroup
	@echo "Not part of this run: make bench (figures, not checks), make chaos (kills, cuts and fuzzing at length)."

test-viewer: setup ## drive the viewer in headless Chromium; pictures of what was seen go to build/viewer-seen
	@scripts/test_tools.sh
	@$(BIN)/python -m dicomweb.viewer.package --to build/viewer
	@$(BIN)/python -m pytest -q tests/acceptance/test_viewer.py

unit: setup ## unit tests alone
	@$(BIN)/python -m pytest -q tests/unit -n 2

check: setup ## format, lint, types, import contracts, unit tests
	@$(BIN)/ruff format --check --quiet . || { echo "Run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports >build/lint-imports.log 2>&1 || { cat build/lint-imports.log; exit 1; }
	@$(BIN)/python -m pytest -q tests/unit -n 2

bench-results: setup ## segmentations and reports, beside plain highdicom
	@$(BIN)/python -m benchmarks.results

bench-dicomweb: setup ## metadata, retrieval, storing and queries over HTTP, beside pydicom and Orthanc
	@$(BIN)/python -m benchmarks.metadata
	@$(BIN)/python -m benchmarks.dicomweb

gallery: setup | build ## one of each kind of result for five kinds of source, with pictures, in build/gallery
	@$(BIN)/python -m tests.gallery build/gallery

conformance: ## write CONFORMANCE.md anew from the code's tables
	@$(BIN)/python -m dicom_node.conformance >build/CONFORMANCE.md && mv build/CONFORMANCE.md CONFORMANCE.md

conformance check: | build
build:
	@mkdir -p build

bench: setup ## ingest rate and latency from the last image to the report, as a table
	@$(BIN)/python -m benchmarks

chaos: setup ## kill, cut, flood and fuzz a node at length and write docs/chaos.md; SCALE=1 for the full counts, SEED=n
	@$(BIN)/python -m tests.chaos --scale $(or $(SCALE),0.1) --seed $(or $(SEED),20261124)

bench-workflow: setup ## from the last Success to SEG and SR at the PACS, part by part; and how soon a node is ready on a backlog
	@$(BIN)/python -m benchmarks.workflow
	@$(BIN)/python -m benchmarks.restart

bench-find: setup ## C-FIND beside Orthanc in one run: to the first pending response and to the last
	@$(BIN)/python -m benchmarks.finding

bench-ingest: setup ## C-STORE beside Orthanc, DCMTK and pynetdicom in one run: rate, CPU, latency, memory, growth
	@$(BIN)/python -m benchmarks.ingest

clean: ## remove what was built; data/ stays
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
