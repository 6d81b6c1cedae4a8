# One command each; .ci/run calls `make test`.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PARTS := runc crun bubblewrap uidmap fuse-overlayfs passt slirp4netns rootlesskit containernetworking-plugins iproute2 iptables busybox-static skopeo umoci git xz-utils zstd bzip2 mmdebstrap docker.io docker-registry openssh-client openssh-server openssl gpg gpg-agent gpgv

.PHONY: demo test lint bench clean parts protocol

$(BIN)/torana: setup.cfg setup.py pyproject.toml
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -qq -U pip 2>/dev/null
	@$(BIN)/pip install -qq -e '.[dev]' 2>/dev/null || $(BIN)/pip install -e '.[dev]'
	@$(BIN)/python -m compileall -q core gateway frontends plugins cli
	@touch $@

# Real programs that integration tests use; only root can install them.
parts:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  for part in $(PARTS); do dpkg -s $$part >/dev/null 2>&1 || missing="$$missing $$part"; done; \
	  if [ -n "$$missing" ]; then apt-get update -qq >/dev/null && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi; \
	fi

test: parts lint
	@$(BIN)/pytest -q -n 2 --dist worksteal

lint: $(BIN)/torana
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports >/dev/null || $(BIN)/lint-imports

# Generated modules of gateway/protocol, from its .proto files.
protocol: $(BIN)/torana
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m torana.gateway.protocol.generate src

demo: $(BIN)/torana
	@examples/hello/run $(BIN)/torana

bench: $(BIN)/torana
	@$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
