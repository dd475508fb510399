# Everything a fresh machine needs is done by `make demo` and `make test`; the work is in scripts/.
.DEFAULT_GOAL := help
.PHONY: help demo test test-full bench accuracy lint

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

demo: ## set up, build, and let hud find what blocks a demo server
	@scripts/demo

test: ## set up, lint, and run every test, the live BPF ones included
	@scripts/test

test-full: ## make test, and live tests of more versions of Tokio, profiles, allocators and debug formats
	@scripts/test full

bench: ## set up, and measure what hud costs its target and itself
	@scripts/bench

accuracy: ## set up, and write docs/ACCURACY.md: how right hud is, in every kind of binary
	@scripts/accuracy

lint: ## check formatting and lints
	@scripts/lint
