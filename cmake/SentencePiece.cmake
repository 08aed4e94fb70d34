# exactmamba_sentencepiece: SentencePiece 0.2.1 from the source that cmake/setup.sh puts into the cache, without its trainer. A static
# library, and hidden: it defines FLAGS_minloglevel and protobuf, which LibTorch's libraries also export, as something else.
find_path(EXACTMAMBA_SENTENCEPIECE_SOURCE sentencepiece_processor.h PATHS ${EXACTMAMBA_CACHE}/sentencepiece-0.2.1/src NO_DEFAULT_PATH)
if(NOT EXACTMAMBA_SENTENCEPIECE_SOURCE)
  message(FATAL_ERROR "SentencePiece 0.2.1 was not found in ${EXACTMAMBA_CACHE}. Run cmake/setup.sh (make quickstart and make test do).")
endif()
set(sentencepiece_root ${EXACTMAMBA_SENTENCEPIECE_SOURCE}/..)

set(sentencepiece_sources bpe_model char_model error filesystem model_factory model_interface normalizer sentencepiece_processor
  util word_model)
list(TRANSFORM sentencepiece_sources PREPEND ${EXACTMAMBA_SENTENCEPIECE_SOURCE}/)
list(TRANSFORM sentencepiece_sources APPEND .cc)

# 0.2.1 has one constant in double precision among scores in single: sums in double were compared with rounded ones, so that rounding
# chose between cuts of equal probability. Without it the first of them wins, as in 0.2.3.
set(sentencepiece_generated ${CMAKE_BINARY_DIR}/sentencepiece)
file(READ ${EXACTMAMBA_SENTENCEPIECE_SOURCE}/unigram_model.cc unigram_model)
string(REPLACE "max_score_ - 0.1)" "max_score_ - 0.1f)" unigram_model "${unigram_model}")
file(CONFIGURE OUTPUT ${sentencepiece_generated}/unigram_model.cc CONTENT "${unigram_model}" @ONLY)
list(APPEND sentencepiece_sources ${sentencepiece_generated}/unigram_model.cc)

file(GLOB protobuf_sources ${sentencepiece_root}/third_party/protobuf-lite/*.cc ${EXACTMAMBA_SENTENCEPIECE_SOURCE}/builtin_pb/*.cc)
set(sentencepiece_single ${protobuf_sources} ${sentencepiece_root}/third_party/absl/flags/flag.cc)
add_library(exactmamba_sentencepiece STATIC ${sentencepiece_sources} ${sentencepiece_single})
set_source_files_properties(${sentencepiece_single} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)  # its macros do not allow it
set_target_properties(exactmamba_sentencepiece PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
  UNITY_BUILD ${EXACTMAMBA_QUICK} UNITY_BUILD_BATCH_SIZE 0)

file(CONFIGURE OUTPUT ${sentencepiece_generated}/config.h
  CONTENT "#define VERSION \"0.2.1\"\n#define PACKAGE_STRING \"sentencepiece\"\n#define INSTALL_DATADIR \"\"\n")
target_compile_definitions(exactmamba_sentencepiece PRIVATE HAVE_PTHREAD=1 _USE_INTERNAL_STRING_VIEW)
target_compile_options(exactmamba_sentencepiece PRIVATE -w)
target_include_directories(exactmamba_sentencepiece SYSTEM PUBLIC ${EXACTMAMBA_SENTENCEPIECE_SOURCE}
  PRIVATE ${EXACTMAMBA_SENTENCEPIECE_SOURCE}/builtin_pb ${sentencepiece_root}/third_party/protobuf-lite ${sentencepiece_root}/third_party
    ${sentencepiece_root} ${sentencepiece_generated})
