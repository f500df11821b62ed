# The two commands of a newcomer: `go run ./cmd/wxhub demo` and `make test`.
GO        ?= go
FUZZTIME  ?= 60s
BENCHTIME ?= 1s
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.7.0

.PHONY: help demo deps test test-go fuzz lint bench chaos build sdk release secrets

help:
	@echo "make test     what must pass: vet, all tests with -race (SDK and console too), two seconds of each fuzz target"
	@echo "make deps     install what the tests need (NO_INSTALL=1: only say what is missing)"
	@echo "make demo     hub, simulated WeChat and shop on http://127.0.0.1:8080/"
	@echo "make lint     gofmt, vet, staticcheck, golangci-lint where it is installed"
	@echo "make fuzz     every fuzz target for FUZZTIME ($(FUZZTIME))"
	@echo "make bench    benchmarks; make chaos: the long fault tests; make sdk: rebuild SDK and console"
	@echo "make secrets  keys and passwords for docker-compose.yml in secrets/"
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

# The rounds with a thousand phones run without the race detector, which would be what is measured; -v prints their table.
chaos:
	WXHUB_CHAOS=long $(GO) test -race -count=1 -timeout 60m -run 'Crash|Cluster|Loss|Simulation|newerSchema' ./hub/... ./store/... ./cmd/...
	WXHUB_CHAOS=long $(GO) test -v -count=1 -timeout 60m -run Chaos ./cmd/wxhub

# secrets makes what docker-compose.yml mounts, and leaves alone what is there. Those of WeChat begin empty.
secrets:
	@mkdir -p secrets && chmod 700 secrets && cd secrets && \
	make_one() { [ -e $$1 ] || { cat > $$1; chmod 644 $$1; echo "secrets/$$1"; }; } && random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; } && \
	random | make_one redis_password && random | make_one postgres_password && random | make_one admin_password && \
	echo "key1:$$(random)" | make_one jwt_keys && echo "shop:$$(random)" | make_one api_keys && \
	echo "redis://:$$(cat redis_password)@redis:6379" | make_one redis_url && \
	echo "postgres://wxhub:$$(cat postgres_password)@postgres/wxhub?sslmode=disable" | make_one database_url && \
	for name in wechat_secret wechat_push_token wechat_push_aes_key pay_v3_key pay_private_key; do make_one $$name < /dev/null; done

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
