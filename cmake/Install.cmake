# What `make install PREFIX=...` puts where, and the list that `make uninstall` reads. LibTorch's libraries are copied
# beside the program, so that it neither needs the cache of the build nor another user's right to read it.
set_target_properties(exactmamba PROPERTIES INSTALL_RPATH "$ORIGIN/../lib/exactmamba")
install(TARGETS exactmamba RUNTIME_DEPENDENCY_SET exactmamba_libraries RUNTIME DESTINATION bin)
install(RUNTIME_DEPENDENCY_SET exactmamba_libraries
  PRE_EXCLUDE_REGEXES "^ld-linux" POST_EXCLUDE_REGEXES "^/lib" "^/usr/lib"
  LIBRARY DESTINATION lib/exactmamba)
install(DIRECTORY recipes/ DESTINATION share/exactmamba/recipes FILES_MATCHING PATTERN "*.toml")
install(FILES tools/hf_exactmamba.py DESTINATION share/exactmamba/tools)
install(FILES README.md LICENSE CHANGELOG.md DESTINATION share/doc/exactmamba)
install(CODE [[
  set(root "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}")
  execute_process(COMMAND "${root}/bin/exactmamba" completion bash OUTPUT_VARIABLE completion COMMAND_ERROR_IS_FATAL ANY)
  set(completion_file share/bash-completion/completions/exactmamba)
  file(WRITE "${root}/${completion_file}" "${completion}")
  set(lines "${completion_file}\n")
  foreach(file ${CMAKE_INSTALL_MANIFEST_FILES})
    file(RELATIVE_PATH relative "${CMAKE_INSTALL_PREFIX}" "${file}")
    string(APPEND lines "${relative}\n")
  endforeach()
  file(WRITE "${root}/share/exactmamba/installed-files.txt" "${lines}")
]])
