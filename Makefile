# The two commands of a newcomer: `go run ./cmd/wxhub demo` and `make test`.
GO        ?= go
FUZZTIME  ?= 60s
BENCHTIME ?= 1s
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.7.0

.PHONY: help demo deps test test-go fuzz lint bench chaos build sdk release

help:
	@echo "make test     what must pass: vet, all tests with -race (SDK and console too), two seconds of each fuzz target"
	@echo "make deps     install what the tests need (NO_INSTALL=1: only say what is missing)"
	@echo "make demo     hub, simulated WeChat and shop on http://127.0.0.1:8080/"
	@echo "make lint     gofmt, vet, staticcheck, golangci-lint where it is installed"
	@echo "make fuzz     every fuzz target for FUZZTIME ($(FUZZTIME))"
	@echo "make bench    benchmarks; make chaos: the long fault tests; make sdk: rebuild SDK and console"
	@echo "make release  binaries for linux, macOS and Windows in dist/"

demo:
	$(GO) run ./cmd/wxhub demo

# deps says what it installs before it does so. Without root or apt it only says what is missing:
# the tests that need it are then skipped, by name.
deps:
	@bash .ci/deps

test: deps
	$(GO) vet ./...
	$(MAKE) --no-print-directory test-go
	$(MAKE) --no-print-directory fuzz FUZZTIME=2s

# report prints a line per package, what failed tests said, and the name and reason of each one skipped.
test-go:
	@$(GO) build -o .ci/report/report ./.ci/report
	$(GO) test -race -json -timeout 15m ./... | .ci/report/report

fuzz:
	@GO=$(GO) FUZZTIME=$(FUZZTIME) .ci/fuzz

lint:
	@out=$$(gofmt -l cmd hub wechat store web loadtest); [ -z "$$out" ] || { echo "gofmt: $$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; else echo "golangci-lint is not installed: passed over"; fi

bench:
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./hub/... ./store/... ./wechat/...

chaos:
	WXHUB_CHAOS=long $(GO) test -race -count=1 -timeout 60m -run 'Crash|Cluster|Chaos|Loss|Simulation' ./hub/... ./store/... ./cmd/...

build:
	$(GO) build -trimpath -o bin/ ./cmd/wxhub ./loadtest

sdk:
	cd web/sdk && npm ci --no-audit --no-fund && npm run build
	cd web/console && npm ci --no-audit --no-fund && npm run build

release:
	@for target in linux/amd64 linux/arm64 darwin/arm64 windows/amd64; do \
	  os=$${target%/*}; arch=$${target#*/}; ext=; [ $$os = windows ] && ext=.exe; \
	  echo "dist/wxhub-$$os-$$arch$$ext"; \
	  CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -ldflags='-s -w' -o dist/wxhub-$$os-$$arch$$ext ./cmd/wxhub || exit 1; \
	done
