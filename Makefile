# Everything that is done to this repository. `make test` is what CI runs.

CARGO ?= cargo
DESTDIR ?=
PREFIX ?= /usr/local
INSTALL ?= install
KEEP ?=
# Of `make bench`: how many reloads under load each server lives through.
RELOADS ?=
# Of `make fuzz`.
TARGET ?=
SECONDS_EACH ?=
# Of `make soak`.
SECONDS ?=
REPLACEMENTS ?=
REQUESTS ?=
# The program that `install` installs, where it is not to build one.
BINARY ?=

# Where tests/setup.sh installs cargo-deny and cargo-fuzz.
tools = $(abspath $(or $(CARGO_TARGET_DIR),target))/cargo-tools/bin

bindir = $(DESTDIR)$(PREFIX)/bin
datadir = $(DESTDIR)$(PREFIX)/share
docdir = $(datadir)/doc/project-cluster
mandir = $(datadir)/man
# Where zsh looks for completions below share/zsh: packages of Debian have another place.
ZSHDIR ?= site-functions
SYSCONFDIR ?=

.PHONY: all build test lint unit doc demo bench proof test-257 install clean setup
# Cargo uses all processors by itself, and two cargos would only wait for each other.
.NOTPARALLEL:

all: build

include packaging/package.mk

# What is installed: one file that needs no other, so that nothing is found, mapped and bound before `ls` or a worker's first
# step begins (docs/benchmarks.md). Needs the C library's archive: part of libc6-dev in Debian, glibc-static in Fedora. The
# tests build for themselves.
build:
	$(CARGO) rustc --release --bin project-cluster -- -C target-feature=+crt-static

setup:
	tests/setup.sh

# Under 15 minutes on 2 cores from a fresh clone: docs/testing.md says where they go.
test: setup lint unit doc

# deny.toml says what of others may be linked: licences, versions, sources.
lint:
	$(CARGO) fmt --all --check
	packaging/copyright.py --check
	shellcheck packaging/debian/p* packaging/tools.sh tests/packages.sh tests/lint-packages.sh tests/root.sh tests/root-257.sh tests/faults.sh tests/soak.sh
	shellcheck --shell=sh packaging/rpm/p*
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	PATH="$(tools):$$PATH" $(CARGO) deny --locked check licenses bans sources

# Of the examples the one that a test starts: clippy has looked at all of them. One test more than processors at a time: a
# test on a real systemd waits more than it computes.
unit full: threads = $$(($$(nproc) + 1))
unit: sandbox-example
	$(CARGO) nextest run --workspace --lib --bins --tests --test-threads $(threads)
	$(CARGO) test --doc

# The rooms whole: what `make test` has no time for, too. A part of `make proof`.
.PHONY: full sandbox-example
full: sandbox-example
	tests/setup.sh full
	$(CARGO) nextest run --profile full --workspace --lib --bins --tests --test-threads $(threads)
	$(CARGO) test --doc

sandbox-example:
	$(CARGO) build --workspace --example sandbox

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

# The man pages, and what is generated in the documents: docs/cli.md and docs/rest.md. A test compares. One after the other,
# since the pages are made from the documents.
.PHONY: man
man:
	UPDATE_DOCS=1 $(CARGO) test --quiet --test documents -- --test-threads=1

# A cluster in a throw-away systemd, under load, through a deploy, a crash and a broken deploy.
# KEEP=1 leaves it running and says how to get a shell inside.
demo:
	tests/setup.sh demo
	$(CARGO) build --bin project-cluster --example demo
	KEEP=$(KEEP) $(CARGO) run --quiet --example demo

# The integration tests on systemd 257.
test-257:
	tests/setup.sh full
	root=$$(tests/root-257.sh) && PROJECT_CLUSTER_TEST_ROOT=$$root $(CARGO) nextest run --profile full -E 'binary(it)'

bench: build
	tests/setup.sh full
	$(CARGO) run --release --quiet --example figures
	$(CARGO) run --release --quiet --example bench
	$(CARGO) build --release --quiet --example hello_axum
	RELOADS=$(RELOADS) $(CARGO) run --release --quiet --example reloads
	$(CARGO) run --release --quiet --example loops
	$(CARGO) run --release --quiet --example abuse

# Everything, and docs/proof.md, the report.
proof:
	tests/proof.sh

# The tests that `make test` leaves to this: on Ruby and Java, as an ordinary user, the hostile ones.
.PHONY: proof-tests
proof-tests: build
	tests/setup.sh proof
	$(CARGO) nextest run --profile proof -E 'test(/^proof::/)'

# The tests that need a kernel of their own, in a virtual machine: Yama, the clock, power. Its processors are slow: the release build
# is twice as fast there.
.PHONY: proof-machine
proof-machine: build
	tests/setup.sh proof
	machine=$$(tests/machine.sh) && PROJECT_CLUSTER_TEST_MACHINE=$$machine \
		PROJECT_CLUSTER_BIN=$(CURDIR)/target/release/project-cluster $(CARGO) nextest run --profile proof -E 'test(/^machine::/)'

# 100 faults in the middle of a reload, under load, and docs/faults.md of what came of them. Those that need a kernel of
# their own are in the virtual machine, where the release build is twice as fast.
.PHONY: faults
faults: build
	tests/setup.sh
	CARGO="$(CARGO)" tests/faults.sh

# Plain servers that are reloaded again and again under load, a fault every 30 s; docs/soak.md where it is as long as it is by
# itself. SECONDS=120, REPLACEMENTS=100 or REQUESTS=100000, each at least, make it shorter.
.PHONY: soak
soak: build
	tests/setup.sh
	CARGO="$(CARGO)" SOAK_SECONDS="$(SECONDS)" REPLACEMENTS="$(REPLACEMENTS)" REQUESTS="$(REQUESTS)" tests/soak.sh

# The fuzzers, each for half an hour, and their figures in docs/fuzzing.md. TARGET="names proc" SECONDS_EACH=60 chooses.
.PHONY: fuzz
fuzz:
	tests/setup.sh fuzz
	PATH="$(tools):$$PATH" TARGET="$(TARGET)" SECONDS_EACH="$(SECONDS_EACH)" fuzz/run.sh


# The roll's machine: every state of more and larger worlds than `make test` has time for, a quarter of an hour; and mistakes in it,
# each of which must be found. They write docs/explored.md and docs/mutants.md.
.PHONY: explore mutants
explore:
	EXPLORE=deep UPDATE_DOCS=1 $(CARGO) test --package explore --lib -- --nocapture every_state

mutants:
	explore/mutants.py

# The packages: as a packager looks at them, then through install, upgrade, downgrade and purge in bare Debian 12 and 13.
.PHONY: proof-packages
proof-packages:
	tests/setup.sh proof
	tests/lint-packages.sh
	tests/root.sh bookworm
	tests/packages.sh
	$(CARGO) nextest run --profile proof -E 'test(/^packages::/)'

# What a package has, too: packaging/ holds what is not made from elsewhere. It starts nothing and writes no unit:
# `project-cluster install` does. /etc is touched only where SYSCONFDIR says so: needrestart reads its overrides there alone.
install: $(if $(BINARY),,build)
	$(INSTALL) -D -m 0755 $(or $(BINARY),target/release/project-cluster) $(bindir)/project-cluster
	$(INSTALL) -D -m 0644 packaging/sysusers.d/project-cluster.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/project-cluster.conf
	$(INSTALL) -D -m 0644 packaging/tmpfiles.d/project-cluster.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/project-cluster.conf
	$(if $(SYSCONFDIR),$(INSTALL) -D -m 0644 packaging/needrestart/project-cluster.conf $(DESTDIR)$(SYSCONFDIR)/needrestart/conf.d/project-cluster.conf)
	for section in 1 5 7; do $(INSTALL) -D -m 0644 -t $(mandir)/man$$section packaging/man/*.$$section || exit 1; done
	$(INSTALL) -d $(datadir)/bash-completion/completions $(datadir)/zsh/$(ZSHDIR) $(datadir)/fish/vendor_completions.d
	umask 022 && $(bindir)/project-cluster completions bash > $(datadir)/bash-completion/completions/project-cluster
	umask 022 && $(bindir)/project-cluster completions zsh > $(datadir)/zsh/$(ZSHDIR)/_project-cluster
	umask 022 && $(bindir)/project-cluster completions fish > $(datadir)/fish/vendor_completions.d/project-cluster.fish
	$(INSTALL) -d $(docdir)/examples $(docdir)/units
	$(INSTALL) -m 0644 README.md LICENSE packaging/LICENSE.Apache-2.0 packaging/copyright packaging/changelog $(wildcard docs/*.md) $(wildcard docs/*.json) $(docdir)/
	$(INSTALL) -m 0644 src/config/starter.toml $(docdir)/cluster.toml
	cp -R --no-dereference units/. $(docdir)/units/
	cp -R --no-dereference examples/shop $(docdir)/examples/
	chmod -R u=rwX,go=rX $(docdir)

clean:
	$(CARGO) clean
