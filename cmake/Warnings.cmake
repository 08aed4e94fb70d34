# exactmamba_warnings: what every source file of ours is compiled with.
add_library(exactmamba_warnings INTERFACE)
target_compile_options(exactmamba_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror
  # g++ 12 sees these in std::string's operator+ (GCC bug 105651).
  "$<$<CXX_COMPILER_ID:GNU>:-Wno-restrict;-Wno-stringop-overflow;-Wno-array-bounds>"
  -march=${EXACTMAMBA_MARCH} -fno-math-errno -fno-trapping-math)
if(EXACTMAMBA_SANITIZE)
  target_compile_options(exactmamba_warnings INTERFACE
    -fsanitize=${EXACTMAMBA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-error)
  target_link_options(exactmamba_warnings INTERFACE -fsanitize=${EXACTMAMBA_SANITIZE})
endif()
