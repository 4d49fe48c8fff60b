# ndbpf: `make` prints the verbs.

SWIFT ?= swift
# One compiler for BPF, so that what the verifier sees is what was tested.
BPF_CLANG ?= $(firstword $(wildcard /usr/bin/clang-14) clang)
ARCH := $(shell uname -m)
SWIFT_FLAGS = -c release --static-swift-stdlib
BUILD = .build/release
# The testing library has no static form, so the tests (and the binary they run) have a build of
# their own.
TEST_FLAGS = -c release -Xswiftc -enable-testing --scratch-path .build-tests
TEST_BUILD = .build-tests/release
PREFIX ?= /usr

# What the build links, what the demo runs, what the tests, the guests and the benchmark need.
BUILD_PACKAGES = clang-14 libbpf-dev libelf-dev zlib1g-dev libssl-dev libc6-dev iproute2 iputils-ping
ifeq ($(ARCH),x86_64)
BUILD_PACKAGES += libipsec-mb-dev
endif
MODEL_PACKAGES = spin gcc libc6-dev
TEST_PACKAGES = procps tshark tcpdump prometheus ethtool nftables $(MODEL_PACKAGES)
GUEST_PACKAGES = qemu-system-x86 busybox-static kmod xz-utils zstd ethtool nftables
BENCH_PACKAGES = iperf3 nftables wireguard-go wireguard-tools

.PHONY: headers help deps test-deps model-deps model guest-deps bench-deps bpf build demo test guest-test upgrade-test interop guests bench install clean

help: ## print this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

deps: ## install what the build and the demo need (apt)
	@deploy/install-packages $(BUILD_PACKAGES)

test-deps: deps
	@deploy/install-packages $(TEST_PACKAGES)

model-deps:
	@deploy/install-packages $(MODEL_PACKAGES)

guest-deps: deps
	@deploy/install-packages $(GUEST_PACKAGES)

bench-deps: deps
	@deploy/install-packages $(BENCH_PACKAGES)

BPF_SOURCES = $(wildcard bpf/*.h bpf/*.c)
# Callouts: the examples, and what the tests ask. Not part of the binary.
CALLOUTS = $(patsubst %.bpf.c,bpf/build/callouts/%.bpf.o,$(notdir $(wildcard bpf/examples/*.bpf.c Tests/Callouts/*.bpf.c)))

CALLOUT_CLANG = $(BPF_CLANG) -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -target bpf -I/usr/include/$(ARCH)-linux-gnu

# What the binary carries.
bpf: bpf/build/nd_tc.bpf.o bpf/build/nd_guard.bpf.o bpf/build/nd_hook.bpf.o bpf/build/nd_floor.bpf.o bpf/build/nd_ask.bpf.o bpf/build/nd_socket.bpf.o bpf/build/scenarios.tar $(CALLOUTS) ## compile the BPF programs

# Each header compiles alone, as the programs for TC and as those at sockets include it; a header's static
# functions are nobody's then.
TC_ONLY = bpf/latch.h bpf/reason.h
header = $(BPF_CLANG) -O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-unused-function -target bpf -mcpu=v3 \
	-D__$(ARCH)__ -I/usr/include/$(ARCH)-linux-gnu -fsyntax-only -x c /dev/null

headers: | deps ## compile each header of bpf/ alone
	@for header in $(wildcard bpf/*.h); do $(header) -include $$header || exit 1; done
	@for header in $(filter-out $(TC_ONLY),$(wildcard bpf/*.h)); do $(header) -DND_AT_SOCKET=1 -include $$header || exit 1; done

EXAMPLES = $(patsubst bpf/examples/%.bpf.c,callouts/%.bpf.o,$(wildcard bpf/examples/*.bpf.c))

# What `ndbpf demo` plays, with the callouts that it uses.
bpf/build/scenarios.tar: Tests/Scenarios $(wildcard Tests/Scenarios/*.yaml) $(addprefix bpf/build/,$(EXAMPLES))
	@mkdir -p bpf/build
	tar --format=ustar --sort=name --owner=0 --group=0 --numeric-owner --mode=0644 --mtime=@0 \
		-cf $@ -C Tests/Scenarios $(notdir $(wildcard Tests/Scenarios/*.yaml)) -C $(CURDIR)/bpf/build $(EXAMPLES)

bpf/build/%.bpf.o: bpf/%.bpf.c $(BPF_SOURCES) | deps
	@mkdir -p bpf/build
	$(BPF_CLANG) -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -target bpf -mcpu=v3 \
		-D__$(ARCH)__ -I/usr/include/$(ARCH)-linux-gnu -c $< -o $@

bpf/build/callouts/%.bpf.o: bpf/examples/%.bpf.c bpf/nd.h bpf/nd_callout.h | deps
	@mkdir -p bpf/build/callouts
	$(CALLOUT_CLANG) -c $< -o $@

bpf/build/callouts/%.bpf.o: Tests/Callouts/%.bpf.c bpf/nd.h bpf/nd_callout.h | deps
	@mkdir -p bpf/build/callouts
	$(CALLOUT_CLANG) -c $< -o $@

build: bpf ## build the ndbpf binary, BPF objects inside
	$(SWIFT) build $(SWIFT_FLAGS) --product ndbpf

demo: build ## run the main job on hosts in network namespaces (root)
	$(BUILD)/ndbpf demo

SWIFT_TEST = NDBPF_BINARY=$(CURDIR)/$(TEST_BUILD)/ndbpf $(SWIFT) test $(TEST_FLAGS) --skip-build

# Guests take both CPUs for minutes, so what measures time runs before them.
test: test-deps guest-deps headers bpf guests ## build and run every test, those in guests too (root)
	Tests/Model/run
	$(SWIFT) build $(TEST_FLAGS) --build-tests
	$(SWIFT_TEST) --skip GuestTests
	$(SWIFT_TEST) --filter GuestTests

model: model-deps ## visit every state of the models, catch every broken variant (spin)
	Tests/Model/run

guest-test: guest-deps bpf guests ## the tests that run on Debian's 6.1, 6.12 and newest kernel in QEMU (root)
	$(SWIFT) build $(TEST_FLAGS) --build-tests
	$(SWIFT_TEST) --filter GuestTests

# The version before is built once, from the history.
upgrade-test: test-deps guest-deps bpf guests ## upgrade a hundred protected connections from the version before (root)
	$(SWIFT) build $(TEST_FLAGS) --build-tests
	previous=$$(deploy/previous-build) && NDBPF_PREVIOUS=$$previous $(SWIFT_TEST) --filter UpgradeTests

TORTURE_TRIALS ?= 1000

torture: test-deps bpf ## random trials: no packet of a secured connection in clear, whatever happens (root)
	for product in ndbpf ndtorture; do $(SWIFT) build $(TEST_FLAGS) --product $$product || exit 1; done
	$(TEST_BUILD)/ndtorture --trials $(TORTURE_TRIALS)

torture-guest: guest-deps bpf guests ## a tenth of it on the kernel engine in the guests (root)
	for product in ndbpf ndtorture; do $(SWIFT) build $(TEST_FLAGS) --product $$product || exit 1; done
	deploy/torture-guests $(TEST_BUILD) $(TORTURE_TRIALS)

interop: guest-deps bpf guests ## ndbpf beside strongSwan and libreswan in the guests (root)
	$(SWIFT) build $(TEST_FLAGS) --build-tests
	$(SWIFT_TEST) --filter InteropTests

# Kernels are fetched once, outside of the source: deploy/guest-kernel says where.
guests:
	@for series in 6.1 6.12 newest; do deploy/guest-kernel $$series >/dev/null || exit 1; done

bench: bench-deps build ## measure, beside wireguard-go, nftables and a bare BPF program (root)
	$(BUILD)/ndbpf bench

install: build ## install into PREFIX (/usr)
	install -D -m 0755 $(BUILD)/ndbpf $(DESTDIR)$(PREFIX)/sbin/ndbpf
	install -D -m 0644 deploy/ndbpf.service $(DESTDIR)/lib/systemd/system/ndbpf.service
	install -D -m 0644 deploy/policy.yaml $(DESTDIR)/etc/ndbpf/policy.yaml.example

clean: ## remove what was built
	rm -rf .build .build-tests bpf/build
