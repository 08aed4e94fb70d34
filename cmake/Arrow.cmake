# exactmamba::parquet: Arrow and Parquet C++ 25, from CMAKE_PREFIX_PATH or from the cache that cmake/setup.sh fills (Debian has
# no package of them). Their headers take seconds to read: only data/parquet_text.cpp includes them.
set(arrow_folders ${CMAKE_PREFIX_PATH} ${EXACTMAMBA_CACHE}/arrow-25.0.1/pyarrow)
find_path(EXACTMAMBA_PARQUET_INCLUDE parquet/file_reader.h PATHS ${arrow_folders} PATH_SUFFIXES include NO_DEFAULT_PATH)
find_library(EXACTMAMBA_PARQUET_LIBRARY libparquet.so.2500 PATHS ${arrow_folders} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(EXACTMAMBA_ARROW_LIBRARY libarrow.so.2500 PATHS ${arrow_folders} PATH_SUFFIXES lib NO_DEFAULT_PATH)
if(NOT EXACTMAMBA_PARQUET_INCLUDE OR NOT EXACTMAMBA_PARQUET_LIBRARY OR NOT EXACTMAMBA_ARROW_LIBRARY)
  message(FATAL_ERROR "Parquet C++ 25.0 (libparquet.so.2500, libarrow.so.2500 and their headers) was not found in ${EXACTMAMBA_CACHE}. "
    "Run cmake/setup.sh (make quickstart and make test do), or give its folder with -DCMAKE_PREFIX_PATH=...")
endif()
message(STATUS "Parquet C++ 25.0: ${EXACTMAMBA_PARQUET_LIBRARY}")

add_library(exactmamba_parquet INTERFACE)
add_library(exactmamba::parquet ALIAS exactmamba_parquet)
target_include_directories(exactmamba_parquet SYSTEM INTERFACE ${EXACTMAMBA_PARQUET_INCLUDE})
target_link_libraries(exactmamba_parquet INTERFACE ${EXACTMAMBA_PARQUET_LIBRARY} ${EXACTMAMBA_ARROW_LIBRARY})
