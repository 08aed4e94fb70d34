# exactmamba_quick_to_compile(target [TESTS]): most of a file's time goes to the headers. Those that take longest are read once for
# all rooms, and with GoogleTest's once more for all tests, which are compiled with other options; and several files are compiled as
# one, so that what two files of a room define in their unnamed namespaces needs two names. Files still include what they use: the
# debug preset compiles each by itself (EXACTMAMBA_QUICK=OFF) and finds what they forgot.
option(EXACTMAMBA_QUICK "Precompile headers and compile several files as one (a third of the time of a build)" ON)
set(EXACTMAMBA_FILES_AS_ONE 8)

function(exactmamba_quick_to_compile target)
  if(NOT EXACTMAMBA_QUICK)
    return()
  endif()
  set(owner exactmamba_precompiled)
  set(headers <algorithm> <cmath> <filesystem> <functional> <map> <memory> <optional> <string> <vector>
      <fmt/format.h> <nlohmann/json.hpp> <ATen/core/Tensor.h> <ATen/ops/empty.h>)
  if("TESTS" IN_LIST ARGN)
    set(owner exactmamba_precompiled_tests)
    list(APPEND headers <gtest/gtest.h>)
  endif()
  if(NOT TARGET ${owner})
    file(WRITE ${CMAKE_BINARY_DIR}/${owner}.cpp "")
    add_library(${owner} STATIC ${CMAKE_BINARY_DIR}/${owner}.cpp)
    target_link_libraries(${owner} PRIVATE exactmamba::torch fmt::fmt nlohmann_json::nlohmann_json exactmamba_warnings)
    target_precompile_headers(${owner} PRIVATE ${headers})
    if("TESTS" IN_LIST ARGN)
      target_link_libraries(${owner} PRIVATE GTest::gtest)
      target_compile_options(${owner} PRIVATE $<$<CONFIG:Release>:-O0>)
    endif()
  endif()
  target_precompile_headers(${target} REUSE_FROM ${owner})
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${EXACTMAMBA_FILES_AS_ONE})
  # Of what a file keeps to itself g++ warns as if it were in a header.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
endfunction()
