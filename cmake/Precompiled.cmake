# exactmamba_precompiled(target [TESTS]): the headers that take longest to read, read once for all rooms, and with GoogleTest's
# once more for all tests, which are compiled with other options. Files still include what they use: the debug preset builds
# without (EXACTMAMBA_PRECOMPILED=OFF) and finds what they forgot.
option(EXACTMAMBA_PRECOMPILED "Precompile LibTorch's and nlohmann's headers (halves the time of a build)" ON)

function(exactmamba_precompiled target)
  if(NOT EXACTMAMBA_PRECOMPILED)
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
      target_compile_options(${owner} PRIVATE $<$<CONFIG:Release>:-O1>)
    endif()
  endif()
  target_precompile_headers(${target} REUSE_FROM ${owner})
endfunction()
