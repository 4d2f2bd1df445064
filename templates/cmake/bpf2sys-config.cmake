# SPDX-License-Identifier: MIT OR Apache-2.0
#
# find_package(bpf2sys): compiles eBPF sources and objects to Windows drivers.
#
#   BPF2SYS_EXECUTABLE   the tool; without it, it is looked for in `bin` beside this package and on the PATH
#   bpf2sys::bpf2sys     the tool as a target
#   bpf2sys_add_driver   see below
cmake_policy(PUSH)
# 3.20 brought depfiles for Makefiles, and policy CMP0116, by which their relative names mean the same everywhere.
cmake_policy(VERSION 3.20...3.25)

find_program(BPF2SYS_EXECUTABLE bpf2sys HINTS "${CMAKE_CURRENT_LIST_DIR}/../../../bin"
             DOC "The compiler of eBPF programs to Windows drivers")
if(NOT BPF2SYS_EXECUTABLE)
  set(bpf2sys_FOUND FALSE)
  set(bpf2sys_NOT_FOUND_MESSAGE
      "The tool `bpf2sys` is neither beside this package nor on the PATH: -DBPF2SYS_EXECUTABLE=FILE names it.")
  cmake_policy(POP)
  return()
endif()
if(NOT TARGET bpf2sys::bpf2sys)
  add_executable(bpf2sys::bpf2sys IMPORTED)
  set_target_properties(bpf2sys::bpf2sys PROPERTIES IMPORTED_LOCATION "${BPF2SYS_EXECUTABLE}")
endif()

# bpf2sys_add_driver(NAME SOURCES FILE... [OPTION [VALUE...]]...)
#
# Adds a target that is part of `all` (unless EXCLUDE_FROM_ALL) and makes the outputs of each C source or object; what changed
# is made again, sources also after a change of a header. Its properties BPF2SYS_DRIVERS and BPF2SYS_OBJECTS list the files.
# An argument is the option of `bpf2sys build` of the same name, but:
#
#   OUTPUT_DIRECTORY DIR    where outputs go [default: the current binary folder]
#   DEFINITIONS N[=V]...    --define
#   INCLUDE_DIRECTORIES     --include
#   CFLAGS                  --cflag
#   DEPENDS FILE...         further files to build again after
#   OPTIONS WORD...         words for the command line as they are; files that they name go to DEPENDS, too
#
# Relative files are those of the current source folder. A password is never an argument: SIGN_PASSWORD_ENV names the
# variable that has it when the build runs, SIGN_PASSWORD_FILE a file.
function(bpf2sys_add_driver NAME)
  set(switches EXCLUDE_FROM_ALL)
  set(tool_switches ALLOW_DEGRADED DENY_WARNINGS FORCE_INTEGRITY KEEP_OBJECT LSE RETARGET SIGN_PAGE_HASHES
      SIGN_RETURN_ADDRESS)
  # Options whose value is a word, a file, words, files. Outputs depend on the files.
  set(words CFG FROM HASH MEMORY_LIMIT OPTIMIZE RUNTIME SIGN_DESCRIPTION SIGN_DIGEST SIGN_PASSWORD_ENV SIGN_SIGNER_COMMAND
      SIGN_SIGNER_TIMEOUT SIGN_TIMESTAMP SIGN_URL TIME_LIMIT TYPE VERIFIER)
  set(files SIGN_CERT SIGN_KEY SIGN_PASSWORD_FILE SIGN_PFX VERSION_INFO)
  set(file_lists PLATFORM SIGN_CHAIN)
  set(own CLANG OUTPUT_DIRECTORY SOURCE_ROOT)
  set(own_lists ARCH CFLAGS CONFIG DEFINITIONS DEPENDS EMIT INCLUDE_DIRECTORIES OPTIONS SET SOURCES)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "${switches};${tool_switches}" "${words};${files};${own}"
                        "${file_lists};${own_lists}")
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "bpf2sys_add_driver(${NAME}): unknown arguments: ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  # What follows a list belongs to it: a name that is misspelt or of no argument would be a file.
  foreach(list SOURCES ARCH CFLAGS DEPENDS EMIT INCLUDE_DIRECTORIES PLATFORM SIGN_CHAIN)
    foreach(value IN LISTS ARG_${list})
      if(value MATCHES "^[A-Z][A-Z0-9_]*$")
        message(FATAL_ERROR "bpf2sys_add_driver(${NAME}): unknown argument ${value} behind ${list}")
      endif()
    endforeach()
  endforeach()
  if(ARG_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "bpf2sys_add_driver(${NAME}): no value for ${ARG_KEYWORDS_MISSING_VALUES}")
  endif()
  if(NOT ARG_SOURCES)
    message(FATAL_ERROR "bpf2sys_add_driver(${NAME}): SOURCES names no file")
  endif()

  set(folder "${CMAKE_CURRENT_BINARY_DIR}")
  if(ARG_OUTPUT_DIRECTORY)
    get_filename_component(folder "${ARG_OUTPUT_DIRECTORY}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_BINARY_DIR}")
  endif()
  if(NOT ARG_ARCH)
    set(ARG_ARCH x64)
  endif()
  if(NOT ARG_EMIT)
    set(ARG_EMIT sys)
  endif()
  set(root "${CMAKE_CURRENT_SOURCE_DIR}")
  if(ARG_SOURCE_ROOT)
    get_filename_component(root "${ARG_SOURCE_ROOT}" ABSOLUTE)
  endif()

  # All options but those of one source.
  set(options --quiet --out-dir "${folder}" --source-root "${root}")
  set(depends "${BPF2SYS_EXECUTABLE}")
  foreach(file IN LISTS ARG_DEPENDS)
    get_filename_component(path "${file}" ABSOLUTE)
    list(APPEND depends "${path}")
  endforeach()
  foreach(arch IN LISTS ARG_ARCH)
    list(APPEND options --arch ${arch})
  endforeach()
  foreach(form IN LISTS ARG_EMIT)
    list(APPEND options --emit ${form})
  endforeach()
  foreach(argument IN LISTS tool_switches words files file_lists)
    if(NOT DEFINED ARG_${argument} OR (argument IN_LIST tool_switches AND NOT ARG_${argument}))
      continue()
    endif()
    string(TOLOWER "--${argument}" option)
    string(REPLACE "_" "-" option "${option}")
    if(argument IN_LIST tool_switches)
      list(APPEND options ${option})
    elseif(argument IN_LIST words)
      _bpf2sys_append(options "${option}=" "${ARG_${argument}}")
    else()
      foreach(file IN LISTS ARG_${argument})
        # Not a file: the registry of the machine that builds.
        if(argument STREQUAL "PLATFORM" AND file STREQUAL "registry")
          list(APPEND options --platform registry)
          continue()
        endif()
        get_filename_component(path "${file}" ABSOLUTE)
        list(APPEND options ${option} "${path}")
        list(APPEND depends "${path}")
      endforeach()
    endif()
  endforeach()
  if(ARG_CLANG)
    list(APPEND options --clang "${ARG_CLANG}")
  endif()
  foreach(include IN LISTS ARG_INCLUDE_DIRECTORIES)
    # Named as clang is to name its files: from the folder where the step runs.
    _bpf2sys_named(include "${include}")
    list(APPEND options "--include=${include}")
  endforeach()
  foreach(definition IN LISTS ARG_DEFINITIONS)
    _bpf2sys_append(options --define= "${definition}")
  endforeach()
  foreach(definition IN LISTS ARG_SET)
    _bpf2sys_append(options --set= "${definition}")
  endforeach()
  foreach(definition IN LISTS ARG_CONFIG)
    _bpf2sys_append(options --config= "${definition}")
  endforeach()
  foreach(flag IN LISTS ARG_CFLAGS)
    _bpf2sys_append(options --cflag= "${flag}")
  endforeach()
  list(APPEND options ${ARG_OPTIONS})
  if(CMAKE_GENERATOR MATCHES "^Visual Studio")
    list(APPEND options --message-format msbuild)
  endif()

  # Where one build folder has several configurations, each has its own list of what was read.
  get_property(several_configurations GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
  set(configuration "")
  if(several_configurations)
    set(configuration ".$<CONFIG>")
  endif()
  set(lists "${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${NAME}.bpf2sys")
  file(MAKE_DIRECTORY "${lists}")

  set(drivers)
  set(objects)
  list(LENGTH ARG_ARCH architectures)
  foreach(source IN LISTS ARG_SOURCES)
    get_filename_component(path "${source}" ABSOLUTE)
    # The names that the tool gives: `a.o`, `a.c` and `a.bpf.c` give `a.sys`, or `a.x64.sys` and `a.arm64.sys`.
    get_filename_component(object "${path}" NAME_WLE)
    string(REGEX REPLACE "\\.bpf$" "" stem "${object}")
    set(outputs)
    foreach(arch IN LISTS ARG_ARCH)
      foreach(form IN LISTS ARG_EMIT)
        if(architectures GREATER 1)
          list(APPEND outputs "${folder}/${stem}.${arch}.${form}")
        else()
          list(APPEND outputs "${folder}/${stem}.${form}")
        endif()
      endforeach()
    endforeach()
    foreach(output IN LISTS outputs)
      if(output IN_LIST drivers)
        message(FATAL_ERROR "bpf2sys_add_driver(${NAME}): two sources would give ${output}")
      endif()
    endforeach()
    list(APPEND drivers ${outputs})
    if(ARG_KEEP_OBJECT AND path MATCHES "\\.[cC]$")
      list(APPEND outputs "${folder}/${object}.o")
      list(APPEND objects "${folder}/${object}.o")
    endif()
    set(touch)
    if(NOT CMAKE_GENERATOR MATCHES "^Ninja")
      # The tool does not write what has its bytes already. Ninja looks; the others would run the step each time.
      set(touch COMMAND "${CMAKE_COMMAND}" -E touch_nocreate ${outputs})
    endif()
    if(CMAKE_GENERATOR MATCHES "Makefiles")
      # What CMake has collected of depfiles; it only ever adds to it, and a header that is gone would be a reason to run the
      # step each time. Without it, CMake reads the depfiles again.
      list(APPEND touch COMMAND "${CMAKE_COMMAND}" -E rm -f
           "${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${NAME}.dir/compiler_depend.internal")
    endif()
    _bpf2sys_named(input "${path}")
    file(RELATIVE_PATH shown "${CMAKE_SOURCE_DIR}" "${path}")
    set(list "${lists}/${object}${configuration}.d")
    add_custom_command(
      OUTPUT ${outputs}
      COMMAND bpf2sys::bpf2sys build ${options} --depfile "${list}" -- "${input}"
      ${touch}
      DEPENDS "${path}" ${depends}
      DEPFILE "${list}"
      WORKING_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}"
      COMMENT "Building drivers of ${shown}"
      VERBATIM)
  endforeach()

  set(all ALL)
  if(ARG_EXCLUDE_FROM_ALL)
    set(all)
  endif()
  add_custom_target(${NAME} ${all} DEPENDS ${drivers} ${objects} SOURCES ${ARG_SOURCES})
  set_target_properties(${NAME} PROPERTIES BPF2SYS_DRIVERS "${drivers}" BPF2SYS_OBJECTS "${objects}")
endfunction()

# Appends one word, also where it has semicolons.
function(_bpf2sys_append LIST OPTION VALUE)
  string(REPLACE ";" "\\;" value "${VALUE}")
  list(APPEND ${LIST} "${OPTION}${value}")
  set(${LIST} "${${LIST}}" PARENT_SCOPE)
endfunction()

# A file or folder as it is named from the current binary folder, where steps run and whose files the names in depfiles are. A
# relative name makes objects that do not depend on where the sources are. On another drive there is none.
function(_bpf2sys_named VARIABLE PATH)
  get_filename_component(path "${PATH}" ABSOLUTE)
  file(RELATIVE_PATH path "${CMAKE_CURRENT_BINARY_DIR}" "${path}")
  if(path STREQUAL "")
    set(path ".")
  endif()
  set(${VARIABLE} "${path}" PARENT_SCOPE)
endfunction()

cmake_policy(POP)
