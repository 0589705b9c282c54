# make run: set up and run the main job (without torch: some 100 MB).  make test: set up all and pass the tests.
# make test-all: the slow tests too, which fit all constants again and trace all families, and many more random cases.
# make wheel: build, install and run the wheel.  make lint, make bench (speed), make clean.
# Needs python3 (3.11 or newer) and make; everything goes into .venv here.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: run test test-all lint wheel bench clean

run: .venv/run.stamp
	$(BIN)/python estimator.py
	$(BIN)/python visualize.py --output roofline.png

test: .venv/dev.stamp lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: .venv/dev.stamp lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "" --hypothesis-profile=thorough

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: .venv/run.stamp
	$(BIN)/python tests/check_wheel.py

bench: .venv/run.stamp
	$(BIN)/python benchmarks/speed.py

.venv/run.stamp: requirements-run.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-run.txt
	$(BIN)/python -m compileall -q -x '/\.' .
	touch $@

.venv/dev.stamp: requirements.txt requirements-run.txt requirements-hf.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ .venv/run.stamp

clean:
	rm -rf .venv
