# Everything a newcomer or CI needs; each target installs what it uses.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
RUN_PACKAGES := python3 python3-venv runc conmon netavark aardvark-dns iptables haproxy mmdebstrap uidmap iproute2 curl
TEST_PACKAGES := skopeo podman buildah umoci wrk busybox-static docker.io docker-registry procps git xz-utils openssh-client apache2-utils rpm openssl \
	postgresql swift-proxy swift-account swift-container swift-object memcached
KUBERNETES_PACKAGES := golang dpkg-dev rsync etcd-server containerd runc containernetworking-plugins conntrack socat iptables nftables e2fsprogs
APT := DEBIAN_FRONTEND=noninteractive apt-get
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes

.PHONY: demo demo-clean test test-fast test-slow test-kubernetes test-kubernetes-smoke lint types format bench-deliver bench-build bench-registry bench-builders bench-kubernetes lock

demo: $(VENV)/run ## From nothing to a URL that answers
	@./examples/demo

demo-clean: ## Take everything of the demo away again
	@./examples/demo clean

test: lint types test-fast ## Lint, types and the default tests

test-fast: $(VENV)/dev
	$(BIN)/pytest -q -m "not slow and not kubernetes"

test-slow: $(VENV)/dev ## The tests that take long: kills, load, whole deliveries
	$(BIN)/pytest -q -m "slow and not kubernetes"

test-kubernetes: $(VENV)/kubernetes ## Tests on a cluster of three nodes of this machine, or on the one in KUBECONFIG
	@[ -n "$$KUBECONFIG" ] || $(BIN)/python -m slipway.testing.kubernetes build
	$(BIN)/pytest -q tests/kubernetes

test-kubernetes-smoke: $(VENV)/kubernetes ## The few of them that say most: a build as a Pod, a delivery, drift, an installation
	@[ -n "$$KUBECONFIG" ] || $(BIN)/python -m slipway.testing.kubernetes build
	$(BIN)/pytest -q tests/kubernetes -m smoke

lint: $(VENV)/dev
	$(BIN)/ruff format --check --quiet src tests
	$(BIN)/ruff check --quiet src tests
	$(BIN)/lint-imports

types: $(VENV)/dev
	$(BIN)/mypy

format: $(VENV)/dev
	$(BIN)/ruff check --quiet --fix src tests
	$(BIN)/ruff format src tests

bench-deliver: $(VENV)/dev ## Edit to serving, next to Docker on the same machine
	$(BIN)/python benchmarks/deliver.py

bench-build: $(VENV)/dev ## Builds, next to BuildKit and buildah on the same machine
	$(BIN)/python benchmarks/build.py

bench-registry: $(VENV)/dev ## The registry, next to docker-registry on the same machine
	$(BIN)/python benchmarks/registry.py

bench-kubernetes: $(VENV)/kubernetes ## Builds as Pods and apps on a cluster, next to kubectl and buildah
	@$(BIN)/python -m slipway.testing.kubernetes build
	$(BIN)/python benchmarks/kubernetes.py

bench-builders: $(VENV)/dev ## Our worker next to a remote daemon, the node's socket and Docker in Docker
	$(BIN)/python benchmarks/builders.py

lock: $(VENV)/dev ## Renew the lock files
	$(BIN)/pip-compile $(LOCK) -o requirements.lock pyproject.toml
	$(BIN)/pip-compile $(LOCK) --extra dev -o requirements-dev.lock pyproject.toml

LOCK := --quiet --upgrade --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links \
	--no-emit-trusted-host --no-header --strip-extras --build-deps-for=editable

$(VENV)/packages:
	@dpkg-query -W $(RUN_PACKAGES) >/dev/null 2>&1 || \
		{ echo "installing $(RUN_PACKAGES)"; $(APT) update -qq && $(APT) install -y -qq --no-install-recommends $(RUN_PACKAGES) >/dev/null; }
	@[ -x $(BIN)/python ] || python3 -m venv $(VENV)
	@touch $@

$(VENV)/run: $(VENV)/packages requirements.lock pyproject.toml
	$(INSTALL) -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/test-packages: $(VENV)/packages
	@dpkg-query -W $(TEST_PACKAGES) >/dev/null 2>&1 || \
		{ echo "installing $(TEST_PACKAGES)"; $(APT) update -qq && $(APT) install -y -qq --no-install-recommends $(TEST_PACKAGES) >/dev/null; }
	@touch $@

$(VENV)/dev: $(VENV)/test-packages requirements-dev.lock pyproject.toml
	$(INSTALL) -r requirements-dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/kubernetes: $(VENV)/dev
	@dpkg-query -W $(KUBERNETES_PACKAGES) >/dev/null 2>&1 || \
		{ echo "installing $(KUBERNETES_PACKAGES)"; $(APT) update -qq && $(APT) install -y -qq --no-install-recommends $(KUBERNETES_PACKAGES) >/dev/null; }
	@touch $@
