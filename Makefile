PYTHON ?= python3
LOCAL = $(PYTHON) -m local

.DEFAULT_GOAL := help
.PHONY: help demo demo-rabbitmq chaos up lake warehouse postgres down check test lint proto-check bench cost dashboard package clean

help: ## show this
	@sed -n 's/^\([a-z-]*\): ## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) | while read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done

demo: ## 20,000 events and 300 objects through the local stack, counted; starts from an empty one: what a running one holds is deleted
	@$(LOCAL) demo $(ARGS)

demo-rabbitmq: ## 20,000 events from a RabbitMQ through the consumer and the local stack, counted; starts from an empty one
	@$(LOCAL) demo-rabbitmq $(ARGS)

chaos: ## the same while functions are killed, Postgres crashes and requests to AWS fail, counted too
	@$(LOCAL) chaos $(ARGS)

up: ## start the emulator and Postgres, deploy the stack, build landfall, and leave it all running
	@$(LOCAL) up $(ARGS)

lake: ## copy the files of the running stack to .local/lake
	@$(LOCAL) lake

warehouse: ## the files in .local/lake to marts in an embedded DuckDB, and a report of them in .local/report
	@$(LOCAL) warehouse $(ARGS)

postgres: ## start Postgres for the tests and print its address: eval "$(make -s postgres)"
	@$(LOCAL) postgres

down: ## stop all that and forget its data
	@$(LOCAL) down

check: ## the inner loop: format, clippy, and every test that needs nothing but the code
	@$(LOCAL) check

test: ## everything: format, lints, template, and all tests with the deployed stack
	@$(LOCAL) test

lint: ## format, clippy, cfn-lint and checkov on the template, buf on proto/, and licences if cargo-deny is installed
	@$(LOCAL) lint

proto-check: ## what the changes of proto/ break: AGAINST=HEAD~1, any other git ref, or a folder; without it since the last release
	@$(LOCAL) proto-check "$$AGAINST"

bench: ## the benchmarks and the peers they are paired with
	@$(LOCAL) bench

cost: ## what it costs on AWS, computed into docs/cost.md
	@$(LOCAL) cost

package: ## zips of every function for AWS with checksums and a bill of materials, in target/package/
	@$(LOCAL) package

dashboard: ## docs/dashboard.svg: the dashboard of template.yaml with demo data
	@$(LOCAL) dashboard

clean: ## down, and delete .local/ and target/
	@$(LOCAL) clean
	@cargo clean
