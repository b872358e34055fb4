# runsc_library(NAME [SRCS file…] [DEPS target…])
#
# One target per folder. A target sees only the headers of the targets it names, because tests/arrows checks that
# every #include of ours names a folder whose target is in DEPS (directly or through another).
function(runsc_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  if(ARG_SRCS)
    add_library(${name} STATIC ${ARG_SRCS})
    target_link_libraries(${name} PUBLIC runsc_options ${ARG_DEPS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE runsc_options ${ARG_DEPS})
  endif()
endfunction()

# runsc_test(NAME SRCS file… DEPS target…): a GoogleTest binary whose cases ctest knows one by one.
function(runsc_test name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  if(NOT RUNSC_TESTS)
    return()
  endif()
  add_executable(${name} ${ARG_SRCS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE runsc_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 120)
endfunction()
