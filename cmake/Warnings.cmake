# exactmamba_warnings: what every source file of ours is compiled with.
add_library(exactmamba_warnings INTERFACE)
target_compile_options(exactmamba_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wnull-dereference -Werror
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>  # g++ 12 sees one in std::string's operator+ (GCC bug 105651)
  -march=${EXACTMAMBA_MARCH} -fno-math-errno -fno-trapping-math)
if(EXACTMAMBA_SANITIZE)
  target_compile_options(exactmamba_warnings INTERFACE
    -fsanitize=${EXACTMAMBA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-error -Wno-null-dereference)
  target_link_options(exactmamba_warnings INTERFACE -fsanitize=${EXACTMAMBA_SANITIZE})
endif()
