# Rotunda: what a newcomer types. `make help` lists it.

GO      ?= go
ARGS    ?=
TOOL     = $(GO) tool -modfile=tools/go.mod
LDFLAGS  = -s -w

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## build bin/rotunda
	$(GO) build -trimpath -buildvcs=auto -ldflags '$(LDFLAGS)' -o bin/rotunda ./cmd/rotunda

.PHONY: demo
demo: ## rotate a real etcd cluster under load; ARGS='--output json' or ARGS=--keep
	@echo 'building; the first time etcd takes a few minutes' >&2
	@$(MAKE) --no-print-directory build >&2
	@cd demo && $(GO) build -trimpath -o ../bin/demo .
	@./bin/demo run --rotunda bin/rotunda $(ARGS)

.PHONY: deps
deps: ## install what the tests need (Debian packages)
	./scripts/deps

# The tests of control in which goroutines meet; the others are one after the other.
CONTROL_AT_ONCE = TwoServers|AtOnce|UnderAFlood|Lane|Races|OneCommit|IsGoodForOne|GoesUnrecorded|PassIsWhole|Sequence|Calls|GroupWaits

# Where goroutines meet in every test, and what of it kills processes that the race
# detector would only slow down.
AT_ONCE = ./agent/... ./store/... ./server/... ./fleettest/...
KILLS   = SIGKILL|Kill|TornLog|TestPostgres$$|Move|Failover|TestDatabase|TestStopped|OfADatabase|BesideAnother|MigrateAtOnce|SlowReaders|TestStore/(Records|Audit)|TestQuestions|MigrateLog
FAULTS  = TestFaults

.PHONY: test
test: ## the product's tests, with the race detector where goroutines meet
	$(GO) test $$($(GO) list ./... | grep -vE '/(target|agent|store|server|fleettest)(/|$$)') ./target/targettest
	$(GO) test -race -parallel 8 -skip '$(KILLS)|$(FAULTS)' $(AT_ONCE)
	$(GO) test -parallel 8 -run '$(KILLS)' -skip '$(FAULTS)' $(AT_ONCE)
	$(GO) test -race -run '$(CONTROL_AT_ONCE)' ./control
	cd demo && $(GO) vet ./... && $(GO) test ./...

# What rests on a store, with one that is PostgreSQL's; but for walks of the checker's
# worlds, which have a store of their own each and are about what follows from facts.
WALKS    = WalksOfTheChecker
ON_STORE = ./control ./server ./reconcile ./fleettest

.PHONY: test-postgres
test-postgres: ## what rests on a store, on a real PostgreSQL
	$(GO) run ./internal/postgrestest/with $(GO) test -timeout 20m -parallel 8 -skip '$(FAULTS)|$(WALKS)' $(ON_STORE) $(ARGS)

SCENARIO ?= list
.PHONY: faults
faults: ## bring a fault about on real servers and databases: SCENARIO=NAME, or all; without it their names
	@$(GO) test -c -o bin/faults.test ./fleettest
	@cd fleettest && ../bin/faults.test -test.timeout 15m -test.run '^$(FAULTS)$$' -scenario '$(SCENARIO:all=)'

.PHONY: test-targets
test-targets: ## each adapter against its real server
	$(GO) test ./target

.PHONY: interop
interop: ## every kind of server, under load and under sabotage (minutes)
	cd interop && $(GO) vet ./... && $(GO) test ./load ./story ./table && $(GO) test -count=1 -timeout 20m $(ARGS)

.PHONY: rootchange
rootchange: ## roots replaced beneath real servers under load, with kills, liars and an older store (minutes)
	cd interop && $(GO) vet ./rootchange && $(GO) test -count=1 -timeout 20m ./rootchange $(ARGS)

.PHONY: docs-targets
docs-targets: ## run the suite and write what it counted to docs/targets.md
	cd interop && $(GO) test -count=1 -timeout 20m -args -write

.PHONY: lint
lint: ## gofmt, vet, staticcheck, buf
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these'; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(TOOL) buf lint

.PHONY: generate
generate: ## regenerate api/ from its .proto files
	$(TOOL) buf generate

.PHONY: bench
bench: build ## CPU per certificate beside its floor, memory at rest, time to ready
	$(GO) run ./bench --rotunda bin/rotunda $(ARGS)

.PHONY: bench-docs
bench-docs: build ## the same, and write what was measured, and where, to docs/bench/
	$(GO) run ./bench --rotunda bin/rotunda --docs docs/bench $(ARGS)

SOAK ?= 10m
.PHONY: soak
soak: ## random fleets on a real store, walked for SOAK
	$(GO) test -count=1 -timeout 0 -v ./control -run TestRandomFleets -rapid.checks 1000000 -machine $(SOAK) $(ARGS)

FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME each
	./scripts/fuzz $(FUZZTIME)
