# make demo   a picture from the embedded model, set-up included
# make test   every test, set-up included
# make check  format, lint, types, then the tests: green at every commit
# make web    builds the editor anew; needs Node 20 or newer
# make bench  the benchmarks; each prints JSON
PYTHON ?= python3
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)
BIN := .venv/bin
READY := .venv/ready
ARGS ?=

NPM := $(shell command -v npm)
NODES := web/node_modules/.package-lock.json

.PHONY: demo test check format lint types web web-check bench parity docs clean

demo: $(READY)
	$(BIN)/nodegraph run workflows/text_to_image.json --prompt "a large red circle on a blue background"

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

check: lint types web-check test

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

web: $(NODES)
	cd web && npm run build

# The editor's types and tests, that its sources give the same bytes each time and those of the bundle, and that a page loads at most
# 250 kB of script. A checkout without npm has the bundle only.
ifeq ($(NPM),)
web-check:
	@echo "npm is not there: the editor's sources are not checked"
else
web-check: $(NODES)
	cd web && npm run types && npm test
	cd web && npm run build -- --outDir ../build/web --emptyOutDir
	cd web && npm run build -- --outDir ../build/web-again --emptyOutDir
	@diff -r build/web build/web-again || { echo "two builds of web/src differ"; exit 1; }
	@diff -r build/web web/bundle || { echo "web/bundle is not what web/src gives: run \`make web\`"; exit 1; }
	@size=$$(cat web/bundle/assets/*.js | gzip -9 | wc -c); test $$size -le 250000 || { echo "the editor's script has $$size bytes of gzip; 250000 are allowed"; exit 1; }
endif

$(NODES): web/package.json web/package-lock.json
	cd web && npm ci

bench: $(READY)
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

# The reference values of ComfyUI on a full-size checkpoint (2.1 GB, made on the spot from a seed).
parity: $(READY)
	NODEGRAPH_PARITY=$${NODEGRAPH_PARITY:-build/parity} $(BIN)/python -m pytest -k parity $(ARGS)

docs: $(READY)
	$(BIN)/nodegraph nodes --markdown > docs/nodes.md
	$(BIN)/python -m nodegraph.worker.descriptions --write
	$(BIN)/python docs/make_examples.py

# torch comes first and at its pin: what needs it then finds it there and fetches no other build.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nodegraph needs Python 3.11 or newer; try: make PYTHON=python3.12 ..."; exit 2; }
	@test -x $(BIN)/python || { echo "making .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,dev]'
	@touch $(READY)

clean:
	rm -rf .venv build output web/node_modules
