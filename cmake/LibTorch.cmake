# exactmamba::torch: LibTorch 2.11, from CMAKE_PREFIX_PATH or from the cache that cmake/setup.sh fills.
# The wheel's own find_package(Torch) insists on a complete CUDA toolkit, so the targets are made here.
set(EXACTMAMBA_TORCH_VERSION 2.11)
set(EXACTMAMBA_CACHE "$ENV{EXACTMAMBA_CACHE}" CACHE PATH "Where cmake/setup.sh keeps LibTorch")
if(NOT EXACTMAMBA_CACHE)
  set(EXACTMAMBA_CACHE "$ENV{HOME}/.cache/exactmamba" CACHE PATH "" FORCE)
endif()

find_path(EXACTMAMBA_TORCH_INCLUDE torch/headeronly/version.h
  PATHS ${CMAKE_PREFIX_PATH} ${EXACTMAMBA_CACHE}/libtorch-2.11.0/torch
  PATH_SUFFIXES include torch/include NO_DEFAULT_PATH)
if(NOT EXACTMAMBA_TORCH_INCLUDE)
  message(FATAL_ERROR "LibTorch ${EXACTMAMBA_TORCH_VERSION} was not found in ${EXACTMAMBA_CACHE}. Run cmake/setup.sh "
    "(make quickstart and make test do), or give its folder with -DCMAKE_PREFIX_PATH=...")
endif()
get_filename_component(torch_root ${EXACTMAMBA_TORCH_INCLUDE} DIRECTORY)

file(STRINGS ${EXACTMAMBA_TORCH_INCLUDE}/torch/headeronly/version.h version_lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE "[^0-9;]" "" torch_version "${version_lines}")
string(REPLACE ";" "." torch_version "${torch_version}")
if(NOT torch_version MATCHES "^2\\.11\\.")
  message(FATAL_ERROR "LibTorch in ${torch_root} is version '${torch_version}', but exactmamba needs ${EXACTMAMBA_TORCH_VERSION}.x. "
    "Point CMAKE_PREFIX_PATH to a LibTorch ${EXACTMAMBA_TORCH_VERSION}, or unset it and run cmake/setup.sh.")
endif()
message(STATUS "LibTorch ${torch_version}: ${torch_root}")

add_library(exactmamba_torch INTERFACE)
add_library(exactmamba::torch ALIAS exactmamba_torch)
# Searched after the system's folders: LibTorch brings a copy of fmt's headers that does not fit the system's libfmt.
target_compile_options(exactmamba_torch INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${EXACTMAMBA_TORCH_INCLUDE}>"
  "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${EXACTMAMBA_TORCH_INCLUDE}/torch/csrc/api/include>")
target_link_directories(exactmamba_torch INTERFACE ${torch_root}/lib)
target_link_libraries(exactmamba_torch INTERFACE torch_cpu c10)
# at::parallel_for runs on OpenMP. Fuzzers use one thread, and clang's OpenMP would be a package more.
if(NOT EXACTMAMBA_BUILD_FUZZERS)
  target_compile_options(exactmamba_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
  target_link_options(exactmamba_torch INTERFACE -fopenmp)
endif()
# torch/lib comes first in the rpath, so that one libgomp serves LibTorch and us.
set(CMAKE_BUILD_RPATH ${torch_root}/lib)
