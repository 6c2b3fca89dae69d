# `make demo` and `make test` set themselves up: a virtual environment in .venv with exactly the versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
FUZZ_KINDS = photos arguments weights networks evaluation
TWIN = twin pyramid loss refine split record plans speed inpaint guide wrong_input widgets training_losses scenes reach photos evaluate
TWIN_REST = brushes process surroundings fast_training
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
SOLUTIONS := $(sort $(wildcard notebooks/solutions/*.ipynb))

.PHONY: help demo test lint unit twin twin-rest known-answers thorough killed fuzzed fuzz browser panel-times notebooks slides solutions times figures panel-picture table1 site lab app kernel train training training-stop training-status ship clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lab,metrics,cluster,photos,test]'
	@touch $@

demo: .venv/ready  ## the main job: the quickstart without a screen, its picture and its page into figures/
	$(BIN)/python -m refine_lib.workshop.lessons notebooks/00_quickstart.ipynb --figures figures

test: lint unit twin known-answers killed fuzzed browser notebooks solutions  ## all tests

lint: .venv/ready  ## style, the order of the rooms, and types
	$(BIN)/ruff check refine_lib tests
	$(BIN)/ruff format --check refine_lib tests
	$(BIN)/lint-imports --no-cache
	$(BIN)/basedpyright --level error

unit: .venv/ready  ## the tests of the library
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not browser and not killed and not fuzz and not known_answers" -n 2

twin: .venv/ready  ## the tests that take a device, on a pretended one that refuses a mix of devices
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --device twin -m "not browser and not killed" -n 2 $(TWIN:%=tests/test_%.py)

twin-rest: .venv/ready  ## what takes longer there: every lesson in a kernel, the command for a GPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --device twin -n 2 tests/test_twin_rest.py $(TWIN_REST:%=tests/test_%.py)

known-answers: .venv/ready  ## whole networks in float64 against the answers of their authors' code
	$(BIN)/python -m pytest -m "known_answers and not thorough" --durations=5

thorough: .venv/ready  ## all of them, those too that take too long for make test
	$(BIN)/python -m pytest -m known_answers --durations=5

killed: .venv/ready  ## an evaluation whose processes are killed: nothing is lost, nothing counted twice
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m killed

fuzzed: .venv/ready  ## random cases for two minutes: damaged files, odd networks and arguments
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m fuzz -n 2

MINUTES ?= 60
SEED ?= $(shell date +%s)
fuzz: .venv/ready  ## the same for longer, with other cases: make fuzz MINUTES=60; what fails lies in build/fuzz
	cd tests && printf '%s\n' $(FUZZ_KINDS) | xargs -P 2 -I KIND ../$(BIN)/python -m fuzz KIND --seed $(SEED) \
		--seconds $$(( 120 * $(MINUTES) / $(words $(FUZZ_KINDS)) )) --failures ../build/fuzz

panel-times: .venv/ready  ## how long the page lets its user wait; on a machine that does nothing else
	cd tests && ../$(BIN)/python panel_times.py

browser: .venv/ready  ## the panel in chromium, in JupyterLab and as a page; skipped where there is no chromium
	$(BIN)/python -m pytest -m browser

notebooks: .venv/ready  ## run every notebook and compare what it prints with what it says it prints
	$(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout 300 -W default $(NOTEBOOKS)

slides: .venv/ready  ## the slides of a class of 45 minutes, into build/slides: one page that needs no network
	$(BIN)/python -m refine_lib.workshop.slides notebooks/slides.md -o build/slides

solutions: .venv/ready  ## run the solutions of all exercises and compare what they print
	$(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout 300 -W default $(SOLUTIONS)

times: .venv/ready  ## how long each lesson takes, into notebooks/TIMES.md (it runs every lesson)
	OMP_NUM_THREADS=1 $(BIN)/python -m refine_lib.workshop.times notebooks/TIMES.md --run

figures: .venv/ready  ## run every lesson; its pictures and its page into figures/, and the panel's in a browser
	$(BIN)/python -m refine_lib.workshop.lessons $(NOTEBOOKS) --figures figures
	$(MAKE) panel-picture

panel-picture: .venv/ready  ## the panel in a browser, into figures/app.png
	@mkdir -p build/screenshots
	$(BIN)/python -m pytest tests/test_browser_workbench.py --screenshots=build/screenshots
	cp build/screenshots/app.png figures/

TABLE1 := -m refine_lib.evaluate scenes:64 -o build/table1 --size 256 --masks thin medium thick --features scenes --methods \
	plain:mini-lama enlarged:mini-lama refined:mini-lama plain:mini-conv refined:mini-conv biharmonic

TABLE1_PICTURE := -m refine_lib.evaluate scenes:8 -o build/table1_picture --keep 8 --size 256 --masks thick --features scenes --methods \
	plain:mini-lama refined:mini-lama

table1: .venv/ready  ## the embedded networks in a small Table 1, into figures/ (a quarter of an hour; stopped, it goes on)
	$(BIN)/python $(TABLE1)
	@printf '# Table 1 of the embedded networks\n\n`.venv/bin/python $(strip $(TABLE1))` (`make table1`)\n\n' > figures/table1.md
	sed 's/^### /## /' build/table1/table.md >> figures/table1.md
	$(BIN)/python $(TABLE1_PICTURE)
	cp build/table1_picture/refined_thick.png figures/table1.png

.venv/site-ready: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[site]'
	@touch $@

# From nothing each time: a page must show what the notebooks hold now. A link to nowhere is a warning, so -W.
site: .venv/site-ready  ## the course as HTML with its pictures, into build/site
	rm -rf build/_build build/site
	$(BIN)/jupyter-book build . --config notebooks/_config.yml --toc notebooks/_toc.yml --path-output build -W --keep-going
	@mv build/_build/html build/site
	@echo "moved to $(CURDIR)/build/site/index.html"

lab: .venv/ready  ## JupyterLab on the quickstart
	$(BIN)/jupyter lab --ServerApp.root_dir=$(CURDIR) --LabApp.default_url=/lab/tree/notebooks/00_quickstart.ipynb

app: .venv/ready  ## the panel and the painter as a page, at http://127.0.0.1:8866, for this machine alone
	$(BIN)/python -m refine_lib.widgets notebooks/05_tune_it.ipynb --browser

kernel: .venv/ready  ## a Jupyter kernel that computes on CUDA or says why it cannot, never on the CPU
	$(BIN)/python -m ipykernel install --user --name refine-lib-cuda \
		--display-name "Python 3 (refine_lib, CUDA)" --env REFINE_DEVICE cuda

train: .venv/ready  ## the embedded network from nothing, into build/ (hours; run again, it goes on where it was)
	@mkdir -p build
	$(BIN)/python -m refine_lib.workshop.train_first build/mini_lama.safetensors --steps 24000

training: .venv/ready  ## the networks of the next edition, in the background, for days: one thread each, lowest priority
	$(BIN)/python -m refine_lib.workshop.service start

training-stop: .venv/ready  ## end them between two steps; make training goes on from there
	$(BIN)/python -m refine_lib.workshop.service stop

training-status: .venv/ready  ## pictures seen, speed, figures over time, and where the previews are
	$(BIN)/python -m refine_lib.workshop.service status

ship: .venv/ready  ## new weights, and all that shows them: make ship WEIGHTS="mini-lama=annealed.safetensors" (an hour or two)
	$(BIN)/python -m refine_lib.workshop.ship $(WEIGHTS) --jobs 2

clean:  ## remove the virtual environment
	rm -rf .venv *.egg-info
