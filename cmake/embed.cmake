# Texts built into the program. Included, it offers
#   sememe_embed(TARGET FILE...)   adds a source with each FILE's text as sememe::embedded::NAME_EXTENSION
# and is also the script that writes that source when a file has changed.

function(sememe_embed target)
  set(output ${CMAKE_BINARY_DIR}/embedded_${target}.cpp)
  add_custom_command(OUTPUT ${output} DEPENDS ${ARGN} ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
    COMMAND ${CMAKE_COMMAND} -D OUTPUT=${output} -D "FILES=${ARGN}" -P ${CMAKE_SOURCE_DIR}/cmake/embed.cmake VERBATIM)
  target_sources(${target} PRIVATE ${output})
  set_source_files_properties(${output} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
endfunction()

if(CMAKE_SCRIPT_MODE_FILE)
  set(source "#include <string_view>\n\nnamespace sememe::embedded {\n")
  foreach(file IN LISTS FILES)
    get_filename_component(name ${file} NAME)
    string(REPLACE "." "_" name ${name})
    file(READ ${file} text)
    string(APPEND source "extern const std::string_view ${name};\nconst std::string_view ${name} = R\"embedded(${text})embedded\";\n")
  endforeach()
  file(WRITE ${OUTPUT} "${source}}  // namespace sememe::embedded\n")
endif()
