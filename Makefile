# `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# One run of the whole suite, with the race detector, stays under this.
TEST_TIMEOUT ?= 12m

.PHONY: help build demo test setup lint vet fmt-check staticcheck generated unit generate bench bench-short image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/flyproxy
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/flyproxy ./cmd/flyproxy

.PHONY: release
release: ## build the archives for linux and darwin, amd64 and arm64, with their checksums, into dist/, and verify them
	go run ./tools/release -version '$(VERSION)'

demo: ## run the demo: six apps in three regions, one sidecar each
	go run ./cmd/flyproxy demo

test: setup lint unit ## install what is missing, then check everything and run the whole suite with -race

setup: ## install what the tests need (as root: Debian packages too); says what will be skipped otherwise
	@tools/setup-tests.sh

lint: fmt-check vet staticcheck generated ## formatting, vet, staticcheck, generated code current, shell scripts

fmt-check: ## gofmt would change nothing
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi

vet: ## go vet
	go vet ./...

staticcheck: ## staticcheck, and shellcheck for the scripts
	go tool staticcheck ./...
	@if command -v shellcheck >/dev/null; then shellcheck $$(git ls-files '*.sh') .ci/run; \
	elif [ -n "$$CI" ]; then echo "shellcheck is missing"; exit 1; else echo "skipped: shellcheck is not installed"; fi

.PHONY: fly-check
fly-check: ## check fly.toml and its variant for containers offline, after you have edited them
	go run ./tools/flycheck fly.toml configs/fly-containers.toml

generated: ## the committed generated code, and docs/configuration.md, are current
	go run ./tools/genproto -check
	go run ./tools/gendocs -check

# -count=1: the end-to-end tests build and run programs, which the test cache does not see.
unit: ## the tests themselves; import direction is one of them (pkg/archtest)
	go test -race -count=1 -timeout $(TEST_TIMEOUT) $$(go list ./... | grep -v /tools/release)
	@# It packs and unpacks in one goroutine, which takes minutes under -race.
	go test -count=1 -timeout $(TEST_TIMEOUT) ./tools/release
	@# sync.Pool drops items at random under -race, so the true bound on allocations needs a run without it.
	go test -count=1 -run TestAllocationsPerCall ./pkg/relay

generate: ## write the generated code anew from proto/ and examples/proto/, and docs/configuration.md
	go run ./tools/genproto
	go run ./tools/gendocs

bench: ## install the other proxies, compare flyproxy with them (about 40 minutes), write docs/benchmarks.md
	bench/install.sh
	go run ./bench

bench-short: ## every cell of the benchmark once, with tiny counts: fails on broken runs, never on times
	go run ./bench -short

# Variables: IMAGE (its name), TARGET (flyproxy or app), PLATFORM (linux/amd64 or linux/arm64); the script tells of more.
image: ## build the image with docker or buildah; TARGET=app for the template with supervisord and a sample app
	@VERSION='$(VERSION)' IMAGE='$(IMAGE)' TARGET='$(TARGET)' PLATFORM='$(PLATFORM)' tools/image.sh

clean: ## remove what was built and installed into this folder
	rm -rf bin dist test/clients/node/node_modules test/clients/python/.venv test/clients/java/target bench/.venv \
		examples/node/node_modules examples/node/dist examples/node/src/generated
