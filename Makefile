# The commands of README.md. The build itself is CMake's: see CMakePresets.json.
PREFIX ?= /usr/local
RECIPE ?= recipes/quickstart.toml
BUILD = build/release

.PHONY: help setup build quickstart test install uninstall bench clean

help:
	@echo "make quickstart            set up, build, train and compare small copy models (about five minutes after the build)"
	@echo "make test                  set up, build with tests, run them"
	@echo "make install PREFIX=...    install the program (default /usr/local)"
	@echo "make uninstall PREFIX=...  remove it"
	@echo "make bench                 build the benchmarks into build/bench/bin; see bench/README.md"
	@echo "make clean                 remove build/"

setup:
	@cmake/setup.sh

build: setup
	@cmake --preset release > build.log 2>&1 || { cat build.log; rm -f build.log; exit 1; }; rm -f build.log
	cmake --build --preset release

quickstart: build
	$(BUILD)/bin/exactmamba run $(RECIPE)

test: setup
	@cmake --preset test > build.log 2>&1 || { cat build.log; rm -f build.log; exit 1; }; rm -f build.log
	cmake --build --preset test
	ctest --preset test -j2

bench: setup
	cmake --preset bench
	cmake --build --preset bench

# sudo make install puts in place what was built before, so that root neither builds nor downloads.
install:
	@[ $$(id -u) = 0 -a -x $(BUILD)/bin/exactmamba ] || $(MAKE) --no-print-directory build
	cmake --install $(BUILD) --prefix $(PREFIX)

uninstall:
	@PREFIX="$(PREFIX)" cmake/uninstall.sh

clean:
	rm -rf build
