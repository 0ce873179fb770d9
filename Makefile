# The two commands of the README: `make demo` and `make test`. Both install what they need from Debian, Swift itself excepted.
SWIFT ?= swift
PREFIX ?= /usr/local
DESTDIR ?=
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# A target imports what it declares: otherwise a clean build depends on the order in which targets happen to be built.
TEST_BUILD := $(SWIFT) build --build-tests --explicit-target-dependency-import-check error

# Swift Testing runs as many tests at once as there are processors, also while they wait for processes. So the suites that wait most
# run in a process of their own, beside the others.
TEST_PROGRAM := .build/debug/demuxPackageTests.xctest --testing-library swift-testing
WAITING_TESTS := ^(ProcessTests|KeeperTests|DisplayTests|WatchTests|LocalHostTests|LocalCPUTests)\.

RELEASE := .build-release
BIN := $(RELEASE)/release
STAGE := $(RELEASE)/stage
# A static Swift runtime: dom0, where these programs run, has none.
RELEASE_BUILD := $(SWIFT) build -c release --static-swift-stdlib --scratch-path $(RELEASE)

BUILD_PACKAGES := git binutils libc6-dev libstdc++-12-dev zlib1g-dev libxen-dev libpixman-1-dev libvncserver-dev libgnutls28-dev libpng-dev
# What the demo has besides: the guest's firmware is built, and noVNC shown.
DEMO_PACKAGES := gcc seabios novnc
TEST_PACKAGES := $(BUILD_PACKAGES) qemu-system-x86 cpio e2fsprogs kmod gcc libc6-dev-i386 perl edid-decode
# Installed; then what only the tests and the benchmarks use.
COMMAND := demux
LIBEXEC_PROGRAMS := demux-dm demux-keeper demux-scratch demux-debug demux-display demux-vnc demux-keyboard demux-nvme demux-web demux-watchdog
TEST_PROGRAMS := demux-example demux-c-scratch demux-test-emulator demux-conformance demux-bench demux-c-loop
# What the demo runs.
DEMO_PROGRAMS := demux demux-dm demux-display demux-vnc demux-web demux-keyboard demux-scratch demux-debug demux-c-scratch

.PHONY: demo test test-full address-test viewer-address-test unit-test unit-test-beside-release rig-test bench bench-density release stage install install-protocols build-packages demo-packages test-packages source-packages clean
# One thing after another, but for what says otherwise: the last runner's last line is to be the last.
.NOTPARALLEL:

# DEMO_SECONDS says how long (20).
#
# Only its own programs are built, and without optimisation: that is much quicker, and what the tests go on from.
demo: demo-packages
	@begin=$$(date +%s); step() { echo "demo: $$(($$(date +%s) - begin)) s: $$*"; }; \
	step 'fetching the Swift packages'; $(SWIFT) package resolve || exit 1; \
	count=0; for program in $(DEMO_PROGRAMS); do \
	  count=$$((count + 1)); step "building $$program ($$count of $(words $(DEMO_PROGRAMS)))"; $(SWIFT) build --product $$program || exit 1; \
	done; \
	step 'starting the guest'
	@Tests/Demo/demo.sh .build/debug

# Ends with the closing line of the last runner, prove.
test: test-packages unit-test-beside-release rig-test

# As `test`, with the counts that are too large for every day.
test-full: export DEMUX_TEST_FULL = 1
test-full: address-test viewer-address-test test

# The VGA's hostile guest, where each access to memory is watched.
address-test: test-packages
	$(SWIFT) test --sanitize=address --scratch-path .build-asan --disable-xctest --filter 'VGATests.FuzzTests'

# Viewers' requests of every shape, with the address sanitiser in the exporter and in libvncserver, which is built anew from Debian's sources.
# DEMUX_TEST_FULL=1 sends 100,000 messages.
viewer-address-test: test-packages source-packages
	$(SWIFT) build --sanitize=address --scratch-path .build-asan --product demux-vnc
	$(TEST_BUILD)
	libraries=$$(SWIFT=$(SWIFT) Tests/Sanitizer/libvncserver.sh .build-asan) && \
	DEMUX_TEST_VNC=$(CURDIR)/.build-asan/debug/demux-vnc DEMUX_TEST_VNC_LIBRARIES=$$libraries \
	$(SWIFT) test --skip-build --filter 'ViewerTests.RequestShapeTests'

unit-test: test-packages
	$(TEST_BUILD)
	$(SWIFT) test --skip-build

# The release build, and before it the rig's machine, are made while the unit tests run: neither keeps every processor
# busy. What they say comes after the tests.
unit-test-beside-release: test-packages
	$(TEST_BUILD)
	@mkdir -p $(RELEASE)
	@echo 'beside the tests: $(RELEASE_BUILD)'; \
	(Tests/XenRig/run.sh -b > /dev/null; exec $(RELEASE_BUILD)) > $(RELEASE)/beside-tests.log 2>&1 & build=$$!; \
	trap 'kill $$build $$others 2>/dev/null' INT TERM; \
	$(TEST_PROGRAM) --skip '$(WAITING_TESTS)' & others=$$!; \
	$(TEST_PROGRAM) --filter '$(WAITING_TESTS)'; tests=$$?; \
	wait $$others; others=$$?; wait $$build; built=$$?; cat $(RELEASE)/beside-tests.log; \
	[ $$tests = 0 ] && [ $$others = 0 ] && [ $$built = 0 ]

# The console's formatter shows each line as it comes, wherever it goes; prove's own choice for files and pipes shows all at the end.
rig-test: test-packages stage
	DEMUX_STAGE=$(CURDIR)/$(STAGE) prove --verbose --formatter TAP::Formatter::Console $(addprefix Tests/XenRig/,merge.t pictures.t rig.t)

# On LocalHost, then in the rig; BENCH_RIG=no leaves the rig out.
bench: test-packages stage
	@Tests/Benchmarks/bench.sh $(BIN) $(CURDIR)/$(STAGE)

# What many guests at rest cost; GUESTS says how many, as far as memory allows. BENCH_RIG=no leaves the rig out.
GUESTS ?= 100
bench-density: test-packages stage
	@Tests/Benchmarks/density.sh $(CURDIR)/$(STAGE) $(GUESTS)

release:
	$(RELEASE_BUILD)

# What dom0 in the rig gets: the programs, without symbols.
stage: release
	@mkdir -p $(STAGE)/bin
	@for program in $(COMMAND) $(LIBEXEC_PROGRAMS) $(TEST_PROGRAMS); do strip -o $(STAGE)/bin/$$program $(BIN)/$$program || exit 1; done

# `demux` finds the others in ../libexec/demux, wherever that is.
install: build-packages release install-protocols
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/demux
	install -s -m 755 $(BIN)/$(COMMAND) $(DESTDIR)$(PREFIX)/bin/
	install -s -m 755 $(addprefix $(BIN)/,$(LIBEXEC_PROGRAMS)) $(DESTDIR)$(PREFIX)/libexec/demux/

# Whatever authors include and read: a new file in Protocols is installed without being named here.
install-protocols:
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/share/doc/demux
	install -m 644 $(wildcard Protocols/*.h) $(DESTDIR)$(PREFIX)/include/
	install -m 644 $(wildcard *.md) LICENSE $(wildcard Protocols/*.md) $(DESTDIR)$(PREFIX)/share/doc/demux/

build-packages:
	@$(call ensure,$(BUILD_PACKAGES))

demo-packages:
	@$(call ensure,$(BUILD_PACKAGES) $(DEMO_PACKAGES))

test-packages:
	@$(call ensure,$(TEST_PACKAGES))

source-packages:
	@$(call ensure,dpkg-dev)

# Installs the Debian packages that are missing; silent when none is.
define ensure
missing=$$(for package in $(1); do dpkg-query -W -f '$${Status}\n' $$package 2>/dev/null | grep -q '^install ok installed' || echo $$package; done); \
if [ -n "$$missing" ]; then \
  echo "installing with apt-get:" $$missing; \
  { $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; } || \
  { echo "could not install them: see above. (This is for Debian 12.)" >&2; exit 1; }; \
fi; \
command -v $(SWIFT) >/dev/null || { echo "$(SWIFT) is not on the PATH: install Swift 6.3 (swift.org) first" >&2; exit 1; }
endef

clean:
	rm -rf .build .build-asan $(RELEASE)
