# exactmamba_warnings: what every source file of ours is compiled with.
add_library(exactmamba_warnings INTERFACE)
target_compile_options(exactmamba_warnings INTERFACE
  "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;--expt-relaxed-constexpr>"
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wnon-virtual-dtor;-Woverloaded-virtual;-Werror>"
  # g++ 12 sees these in std::string's operator+ (GCC bug 105651).
  "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict;-Wno-stringop-overflow;-Wno-array-bounds>"
  "$<$<COMPILE_LANGUAGE:CXX>:-march=${EXACTMAMBA_MARCH};-fno-math-errno;-fno-trapping-math>")
if(EXACTMAMBA_SANITIZE)
  target_compile_options(exactmamba_warnings INTERFACE
    -fsanitize=${EXACTMAMBA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-error)
  target_link_options(exactmamba_warnings INTERFACE -fsanitize=${EXACTMAMBA_SANITIZE})
endif()
