# Parley's make targets. `make run` and `make test` need only Go and make;
# whatever else a target needs, it installs into .tools or .build first.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Pinned tools. Each is installed by itself: their own requirements clash.
BUF_VERSION                   := v1.75.0
PROTOC_GEN_GO_VERSION         := v1.36.12
PROTOC_GEN_GO_GRPC_VERSION    := v1.6.2
# The version that grpc-go requires of it too.
PROTOC_GEN_GO_VTPROTO_VERSION := v0.6.1-0.20240319094008-0393e58bdf10
GOLANGCI_LINT_VERSION         := v2.15.0

TOOLS   := $(CURDIR)/.tools
MODULES := proto pkg services

TEST_TIMEOUT ?= 10m
# The race detector needs a C compiler; where there is none the tests run
# without it, and say so.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

export GOWORK := $(CURDIR)/go.work

.PHONY: help
help: ## Show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

.PHONY: run
run: build ## Build, start everything in one process, play a recorded day, stay up
	./bin/parley demo

.PHONY: build
build: ## Build bin/parley
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -buildvcs=auto -ldflags '-s -w' -o bin/parley ./services/parley

.PHONY: test
test: ## Run all tests, with the race detector where there is a C compiler
	$(if $(RACE),,@echo "no C compiler found: testing without the race detector")
	go test $(RACE) -timeout $(TEST_TIMEOUT) $(addsuffix /...,$(addprefix ./,$(MODULES)))

.PHONY: test-clients
test-clients: build ## Run real clients of others against a running Parley (needs Node.js and npm; installs swaks where it may)
	@command -v swaks >/dev/null && perl -MNet::SSLeay -e1 2>/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "swaks is missing: install it with Perl's Net::SSLeay (Debian: apt-get install swaks libnet-ssleay-perl)"; exit 1; }; \
	  apt-get install -qq -y --no-install-recommends swaks libnet-ssleay-perl >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends swaks libnet-ssleay-perl >/dev/null; }; }
	@command -v openssl >/dev/null || { echo "openssl is missing: it makes the tests' certificates"; exit 1; }
	@# Not `npm ci`: it insists on optional packages of other platforms, which a registry need not serve.
	cd services/parley/clienttest && npm install --no-save --omit=optional --loglevel=error
	cd services/parley/clienttest && PARLEY_BIN=$(CURDIR)/bin/parley npm test
	cd services/parley/clienttest && PARLEY_BIN=$(CURDIR)/bin/parley npm run test:elsewhere

.PHONY: test-elsewhere
test-elsewhere: build ## Run the end-to-end tests over an event store in another process, which is killed meanwhile
	PARLEY_TEST_EVENT_STORE=esdb PARLEY_BIN=$(CURDIR)/bin/parley go test -count=1 -timeout 10m ./services/parley/internal/serve ./services/parley/internal/cli

.PHONY: test-crash
test-crash: ## Kill a loaded process at 50 random moments and compare digests; pause recorders as often
	PARLEY_TAKEOVER_ROUNDS=50 go test -count=1 -timeout 30m -run 'TestTakeover' ./services/recorder/takeovertest
	PARLEY_CRASH_ROUNDS=50 go test -count=1 -timeout 60m -run 'TestCrash' ./services/parley/... ./pkg/eventstore/... ./pkg/view/... ./pkg/projection/...

# What is measured within the benchmark's own process is built as bin/parley is,
# and has its memory limit.
AS_RELEASED := CGO_ENABLED=0 GOMEMLIMIT=800MiB

.PHONY: bench
bench: ## Measure every row of the performance table beside its yardstick
	$(AS_RELEASED) go test -count=1 -timeout 120m -run '^$$' -bench . -benchtime 1x ./services/parley/internal/bench
	$(AS_RELEASED) go test -count=1 -timeout 10m -run '^$$' -bench 'Driver|Server' ./pkg/eventstore/esdb
	PARLEY_BENCH_1M=1 CGO_ENABLED=0 go test -count=1 -timeout 30m -run '^$$' -bench 'Fit|Candidates' -benchtime 1x ./pkg/identity/match

.PHONY: bench-short
bench-short: ## The same at a hundredth of the size, to see that it runs
	PARLEY_BENCH_SCALE=0.01 $(AS_RELEASED) go test -count=1 -timeout 10m -run '^$$' -bench . -benchtime 1x ./services/parley/internal/bench
	$(AS_RELEASED) go test -count=1 -timeout 10m -run '^$$' -bench 'Driver|Server' -benchtime 50x ./pkg/eventstore/esdb

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 20s)
	@set -e; for pkg in $$(grep -rlE '^func Fuzz' --include='*_test.go' $(MODULES) | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$pkg/*_test.go | awk '{print $$2}' | sort -u); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $${FUZZTIME:-20s} ./$$pkg; \
	  done; \
	done

.PHONY: tools
tools: $(TOOLS)/.buf-$(BUF_VERSION) $(TOOLS)/.protoc-gen-go-$(PROTOC_GEN_GO_VERSION) $(TOOLS)/.protoc-gen-go-grpc-$(PROTOC_GEN_GO_GRPC_VERSION) $(TOOLS)/.protoc-gen-go-vtproto-$(PROTOC_GEN_GO_VTPROTO_VERSION) $(TOOLS)/.golangci-lint-$(GOLANGCI_LINT_VERSION) ## Build the pinned tools into .tools

define install-tool
	@mkdir -p $(TOOLS)
	cd / && GOWORK=off GOBIN=$(TOOLS) go install $(1)
	@touch $@
endef

$(TOOLS)/.buf-$(BUF_VERSION):
	$(call install-tool,github.com/bufbuild/buf/cmd/buf@$(BUF_VERSION))
$(TOOLS)/.protoc-gen-go-$(PROTOC_GEN_GO_VERSION):
	$(call install-tool,google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION))
$(TOOLS)/.protoc-gen-go-grpc-$(PROTOC_GEN_GO_GRPC_VERSION):
	$(call install-tool,google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GO_GRPC_VERSION))
$(TOOLS)/.protoc-gen-go-vtproto-$(PROTOC_GEN_GO_VTPROTO_VERSION):
	$(call install-tool,github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto@$(PROTOC_GEN_GO_VTPROTO_VERSION))
$(TOOLS)/.golangci-lint-$(GOLANGCI_LINT_VERSION):
	$(call install-tool,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION))

# protovalidate's contract, printed from the Go module that the code is built
# with: buf resolves the import from here and needs no registry.
.build/protovalidate: pkg/go.mod
	@mkdir -p $@
	go run ./pkg/internal/cmd/protovalidateproto $@
	@touch $@

.PHONY: proto
proto: tools .build/protovalidate ## Format the contracts and generate their Go code
	$(TOOLS)/buf format -w proto
	rm -rf proto/gen
	$(TOOLS)/buf generate

.PHONY: proto-check
proto-check: tools .build/protovalidate ## Lint the contracts, check for breaks and that the generated code is current
	$(TOOLS)/buf lint
	$(TOOLS)/buf format -d --exit-code proto
	@tag=$$(git describe --tags --match 'v*' --abbrev=0 2>/dev/null); \
	if [ -n "$$tag" ]; then $(TOOLS)/buf breaking proto --against ".git#tag=$$tag,subdir=proto"; \
	else echo "no release yet: nothing to break"; fi
	@rm -rf .build/gen && mkdir -p .build/gen
	$(TOOLS)/buf generate -o .build/gen
	diff -r .build/gen/proto/gen proto/gen

.PHONY: lint
lint: tools ## Lint all modules
	@set -e; for module in $(MODULES); do echo "golangci-lint $$module"; (cd $$module && $(TOOLS)/golangci-lint run ./...); done

.PHONY: tidy
tidy: ## Tidy all modules
	@set -e; for module in $(MODULES); do (cd $$module && GOWORK=off go mod tidy); done

.PHONY: tidy-check
tidy-check: ## Check that all modules are tidy
	@set -e; for module in $(MODULES); do (cd $$module && GOWORK=off go mod tidy -diff); done

.PHONY: clean
clean: ## Remove what was built; data stays
	rm -rf bin .build
