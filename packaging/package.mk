# What a distribution installs: `make deb`, `make rpm`, `make tarball`. `install` of ../Makefile is the one description of the
# tree; these put it below target/package and hand all of it to cargo-deb and cargo-generate-rpm, which Cargo.toml tells of.

PACKAGE := target/package
TOOLS := target/tools/bin
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
# Reproducible: all times are that of the changelog's newest entry, no path of this machine is in the program, and of its
# size and order of archives nothing depends on the umask or the locale.
export SOURCE_DATE_EPOCH ?= $(shell date --date="$$(sed -n 's/^ -- .*  //p;T;q' packaging/changelog)" +%s)
CARGO_HOME ?= $(HOME)/.cargo
# Expanded where it is used: by then cargo has fetched the crates.
REMAPPED = --remap-path-prefix=$(CURDIR)=. $(foreach from,$(shell ls -d $(CARGO_HOME)/registry/src/*),--remap-path-prefix=$(from)=crates)
HOST := $(shell $(CARGO) --version --verbose | sed -n 's/^host: //p')
MUSL := $(firstword $(subst -, ,$(HOST)))-unknown-linux-musl
ARCH := $(firstword $(subst -, ,$(HOST)))
# Relative relocations in a packed form, where the linker has it (binutils 2.38, and glibc 2.36 where it runs).
RELR := $(shell ld --help 2> /dev/null | grep -q pack-relative-relocs && echo -C link-arg=-Wl,-z,pack-relative-relocs)

.PHONY: deb rpm tarball package-crates package-binary package-tree-deb package-tree-rpm package-tools

package-crates:
	$(CARGO) fetch --locked

# The program of packages: position-independent, all relocations read-only, and linked to the C library alone: what unwinds
# comes from the compiler's archive instead of libgcc_s, by a linker script of that name that is found first.
package-binary: package-crates
	mkdir -p $(PACKAGE)/lib
	echo 'GROUP ( -lgcc_eh -lgcc )' > $(PACKAGE)/lib/libgcc_s.so
	RUSTFLAGS="$(REMAPPED)" $(CARGO) rustc --locked --release --target $(HOST) --target-dir $(PACKAGE)/build --bin project-cluster -- \
		-L native=$(PACKAGE)/lib $(RELR)

# A tree is what it is made of, and nothing of an earlier one. BINARY is a program that is built already.
define tree
	rm -rf $(PACKAGE)/$(1)
	umask 022 && $(MAKE) --no-print-directory install DESTDIR=$(PACKAGE)/$(1) PREFIX=/usr SYSCONFDIR=/etc $(2) \
		BINARY=$(or $(BINARY),$(PACKAGE)/build/$(HOST)/release/project-cluster)
	find $(PACKAGE)/$(1) -type l -delete
	find $(PACKAGE)/$(1)/usr/share/man $(PACKAGE)/$(1)/usr/share/doc/project-cluster/changelog -type f -exec gzip -9n {} +
endef

package-tree-deb: $(if $(BINARY),,package-binary)
	$(call tree,deb,ZSHDIR=vendor-completions)
	# cargo-deb brings the one, in which the others are said.
	cd $(PACKAGE)/deb/usr/share/doc/project-cluster && rm copyright LICENSE LICENSE.Apache-2.0

package-tree-rpm: $(if $(BINARY),,package-binary)
	$(call tree,rpm,)

# Compiled once for a version, which stands in one place.
package-tools:
	packaging/tools.sh

deb: package-tools package-tree-deb
	$(TOOLS)/cargo-deb --locked --no-build --no-strip --output target/debian/

rpm: package-tools package-tree-rpm
	$(TOOLS)/cargo-generate-rpm --auto-req builtin --payload-compress zstd

# For a system of any other kind: the same tree below usr/local, with a program that needs nothing of it.
tarball: package-crates
	@test -d "$$($(CARGO:cargo=rustc) --print sysroot)/lib/rustlib/$(MUSL)" || \
		{ echo "make tarball: the toolchain has no $(MUSL): 'rustup target add $(MUSL)' adds it" >&2; exit 1; }
	@command -v musl-gcc > /dev/null || { echo "make tarball: musl-gcc compiles SQLite for it: part of musl-tools in Debian" >&2; exit 1; }
	RUSTFLAGS="$(REMAPPED)" $(CARGO) rustc --locked --release --target $(MUSL) --target-dir $(PACKAGE)/build --bin project-cluster
	rm -rf $(PACKAGE)/tarball
	umask 022 && $(MAKE) --no-print-directory install DESTDIR=$(PACKAGE)/tarball BINARY=$(PACKAGE)/build/$(MUSL)/release/project-cluster
	mkdir -p target/tarball
	tar --directory $(PACKAGE)/tarball --sort=name --owner=root:0 --group=root:0 --numeric-owner --format=ustar \
		--mtime=@$(SOURCE_DATE_EPOCH) --create usr | gzip -9n > target/tarball/project-cluster-$(VERSION)-$(ARCH)-linux.tar.gz
