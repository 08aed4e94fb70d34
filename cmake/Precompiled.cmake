# exactmamba_precompiled(target): the headers that take longest to read, read once for all rooms; with OWN once more for this
# target, which is compiled with other options. Files still include what they use: the debug preset builds without
# (EXACTMAMBA_PRECOMPILED=OFF) and finds what they forgot.
option(EXACTMAMBA_PRECOMPILED "Precompile LibTorch's and nlohmann's headers (halves the time of a build)" ON)

function(exactmamba_precompiled target)
  if(NOT EXACTMAMBA_PRECOMPILED)
    return()
  endif()
  set(headers <algorithm> <cmath> <filesystem> <functional> <map> <memory> <optional> <string> <vector>
      <fmt/format.h> <nlohmann/json.hpp> <ATen/core/Tensor.h> <ATen/ops/empty.h>)
  if("OWN" IN_LIST ARGN)
    target_precompile_headers(${target} PRIVATE ${headers})
    return()
  endif()
  if(NOT TARGET exactmamba_precompiled)
    file(WRITE ${CMAKE_BINARY_DIR}/precompiled.cpp "")
    add_library(exactmamba_precompiled STATIC ${CMAKE_BINARY_DIR}/precompiled.cpp)
    target_link_libraries(exactmamba_precompiled PRIVATE exactmamba::torch fmt::fmt nlohmann_json::nlohmann_json exactmamba_warnings)
    target_precompile_headers(exactmamba_precompiled PRIVATE ${headers})
  endif()
  target_precompile_headers(${target} REUSE_FROM exactmamba_precompiled)
endfunction()
