PYTHON ?= python3
LOCAL = $(PYTHON) -m local

.DEFAULT_GOAL := help
.PHONY: help demo up down test lint bench clean

help: ## show this
	@sed -n 's/^\([a-z]*\): ## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) | while read -r name text; do printf '  make %-6s %s\n' "$$name" "$$text"; done

demo: ## 20,000 events through the whole stack on this machine, counted at the other end
	@$(LOCAL) demo $(ARGS)

up: ## start the emulator and deploy the stack to it
	@$(LOCAL) up $(ARGS)

down: ## stop it and forget its data
	@$(LOCAL) down

test: ## everything: format, lints, template, and all tests with the deployed stack
	@$(LOCAL) test

lint: ## format, clippy, template, and licences if cargo-deny is installed
	@$(LOCAL) lint

bench: ## the benchmarks and the peers they are paired with
	@$(LOCAL) bench

clean: ## down, and delete .local/ and target/
	@$(LOCAL) clean
	@cargo clean
