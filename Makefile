# `make demo` and `make test` are all a newcomer needs; each makes the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.us43d-installed
# Typer writes Markdown but keeps Rich's tags; each example becomes a line of one code block.
REFERENCE = $(BIN)/typer --app app us43d.cli.app utils docs --name us43d --title 'Commands' | \
	sed -E '/^  \[green\]/{N;s/\n$$//;s/\[\/?green\]//g;s/^/  /;};s/\[\/?bold\]/**/g;s/\\\[/[/g;s/^(\#\#+ )/\n\1/' | cat -s

.PHONY: coverage model mutation fuzz help env demo test test-slow test-web docs reference lint format types screenshots lint-web imports reproduce gpu kernels links check clean
help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

env: $(STAMP)    ## the environment in .venv
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: env        ## specimens of all sources → fetch → build → check → train → eval → predict → report
	$(BIN)/us43d demo

test: env        ## the whole suite but what is marked slow, gpu or web
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m 'not slow and not gpu and not web'  # one test process per core, one thread each

test-slow: env   ## what takes longer
	$(BIN)/pytest -m slow

coverage: env    ## branches that the tests take, by module (docs/reliability.md); half an hour of a core
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -q -m 'not slow and not gpu and not web'
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report --skip-covered --sort=cover

MUTATE ?= splits
mutation: env    ## mutants of a package (MUTATE=masks, splits, coco, harmonize) that no test notices; resumes from its log
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutation.py $(MUTATE) --log mutation-$(MUTATE).log $(MUTATION)

FUZZ_SECONDS ?= 3600
fuzz: env        ## damaged files of every format for an hour (FUZZ_SECONDS, FUZZ_SEED)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest -m slow -s tests/faults/fuzz

test-web: env    ## the local page in Debian's chromium (apt-get install chromium)
	$(BIN)/pytest -m web tests/web

docs: env        ## the documentation as a site in site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

reference: env   ## docs/cli.md from the commands' help
	$(REFERENCE) > docs/cli.md

lint: env        ## ruff, codespell, phrases of docs/style.md
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell
	$(BIN)/python tools/prose.py

format: env      ## ruff, writing
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: env       ## mypy strict
	$(BIN)/mypy

screenshots: env ## docs/images, taken again (chromium, as for test-web)
	PYTHONPATH=. $(BIN)/python tools/screenshots.py

lint-web:        ## the page's modules: types by TypeScript, hidden names by ESLint (needs npx and a network)
	npx -y -p typescript@5.6 tsc -p us43d/view/page
	npx -y -p eslint@9 eslint -c tools/eslint.config.mjs us43d/view/page

imports: env     ## who may import whom
	PYTHONPATH=. $(BIN)/lint-imports

reproduce: env  ## pinned splits recomputed, generated pages and the schema of the facts compared
	$(BIN)/us43d splits --reproduce
	$(BIN)/us43d card --check
	$(BIN)/us43d facts --schema | diff recipes/facts/schema.json -
	$(REFERENCE) | diff docs/cli.md -

gpu: env         ## on a machine with a GPU: its tests, then every benchmark that is for one, into gpu.md
	$(BIN)/pytest tests/gpu
	PYTHONPATH=. $(BIN)/python benchmarks/gpu.py --write gpu.md

kernels: env     ## what the attention kernels use on a GPU, compiled without one (benchmarks/kernels.md)
	PYTHONPATH=. $(BIN)/python benchmarks/kernels.py --write benchmarks/kernels.md

REAL ?= ../shared/real_train
model: env       ## trains the weights that ship again (REAL: folder with train.json, val.json, images/): about eight hours of a core
	$(BIN)/python benchmarks/small_model.py $(REAL) model --ship model/us43d-small

links: env       ## whether all addresses in the recipes still answer (needs a network; report in links.json)
	$(BIN)/us43d links --all --json > links.json

check: lint types imports reproduce test  ## what CI runs, but the demo, the documentation and what needs npx or a browser

clean:           ## remove the environment and what tests left
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
