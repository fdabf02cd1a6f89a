# The same lines on a laptop and in CI. `make install` builds .venv; the others call it when it is missing or stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
# Two test processes with one thread each beat one process with two on small tensors.
TEST_ENV := OMP_NUM_THREADS=1 MPLBACKEND=agg
TEST_JOBS ?= 2
# Without it cuBLAS has no deterministic products (docs.nvidia.com/cuda/cublas, results reproducibility).
CUDA_ENV := CUBLAS_WORKSPACE_CONFIG=:4096:8
# oneDNN then computes as on processors that have these instructions and no later ones. Read when torch is imported.
NUMERIC_ISAS := AVX2 AVX512_CORE
NUMERIC_TESTS := tests/trainer/encoders tests/trainer/fit
BENCHMARKS := streaming training_step preprocess published_pipeline encoder_step

.PHONY: install demo test test-numeric test-slow test-real test-deploy test-cuda check format lock sbom bench serve clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "Python %d.%d is not 3.11 to 3.13; set PYTHON=python3.11" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || (echo "no venv module: apt-get install python3-venv" && false)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install ## the whole road on synthetic data, ending in report.html
	$(BIN)/interscan demo $(OUT)

test: install ## all but the slow tests and those of a GPU
	$(TEST_ENV) $(BIN)/pytest -n $(TEST_JOBS) --dist worksteal -m "not slow and not deploy and not cuda"

test-numeric: install ## what computes in reduced precision, as on processors with other instructions
	for isa in $(NUMERIC_ISAS); do \
		ONEDNN_MAX_CPU_ISA=$$isa $(TEST_ENV) $(BIN)/pytest -n $(TEST_JOBS) -m numeric $(NUMERIC_TESTS) || exit 1; \
	done

test-slow: install ## the tests that take minutes
	$(TEST_ENV) $(BIN)/pytest -m slow

test-real: install ## the tests on real scans, which lie beside the checkout
	$(TEST_ENV) $(BIN)/pytest -m real_data

test-deploy: install ## builds the images and runs them; as root, with Debian's docker.io, mmdebstrap and docker-compose
	$(TEST_ENV) $(BIN)/pytest -m deploy tests/deploy

test-cuda: install ## the tests of a GPU, on a machine with one and a CUDA build of torch
	$(CUDA_ENV) $(TEST_ENV) $(BIN)/pytest -n 0 -m cuda tests/trainer/cuda

check: install ## formatting, lint, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: install ## the hash-locked requirements of the images, after a change of pyproject.toml
	$(BIN)/python deploy/requirements/lock.py

sbom: install ## a bill of materials (CycloneDX) for each image, into dist/sbom
	$(BIN)/python deploy/sbom.py

bench: install ## each script prints JSON
	for script in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$script || exit 1; done

serve: install ## the demo's model on http://127.0.0.1:8000
	$(BIN)/interscan serve $(OUT)/artefact --allow-prefix $(abspath $(OUT))/cohort

clean:
	rm -rf $(VENV) $(OUT) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
