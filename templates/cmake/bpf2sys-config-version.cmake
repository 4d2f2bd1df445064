# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The version of the tool that this package came with. Before 1.0, a new second number may take options away.
set(PACKAGE_VERSION "0.1.0")

string(REGEX MATCH "^[0-9]+\\.[0-9]+" _bpf2sys_line "${PACKAGE_VERSION}")
set(PACKAGE_VERSION_EXACT FALSE)
set(PACKAGE_VERSION_COMPATIBLE FALSE)
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
if(NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION AND NOT PACKAGE_FIND_VERSION VERSION_LESS _bpf2sys_line)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
unset(_bpf2sys_line)
