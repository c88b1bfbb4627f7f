# One program and one ctest for each tests/unit/test_*.c; the fuzzers and the benchmark programs when asked for.

find_program(PYI_UV uv HINTS "${CMAKE_SOURCE_DIR}/.tools/bin")
mark_as_advanced(PYI_UV)

# Unit tests run with the build tree as their installation and with a runtime folder of their own.
set(test_environment "PYISOLATE_LIBDIR=${CMAKE_BINARY_DIR}" "PYI_BUILD=${CMAKE_BINARY_DIR}"
    "XDG_RUNTIME_DIR=${CMAKE_BINARY_DIR}/run" "XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/cache")
file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/run" "${CMAKE_BINARY_DIR}/cache")
file(CHMOD "${CMAKE_BINARY_DIR}/run" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
if(PYI_UV)
    list(APPEND test_environment "PYISOLATE_UV=${PYI_UV}")
endif()

# Child processes of sanitizer builds find their options here; Python itself never frees all it has. Some tests crash a
# child on purpose: that signal is the child's own, so the sanitizers leave it alone.
list(APPEND test_environment
    "ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:exitcode=99:detect_stack_use_after_return=1:handle_segv=0:handle_abort=0"
    "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/lsan.supp:print_suppressions=0"
    "UBSAN_OPTIONS=print_stacktrace=1"
    "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp:exitcode=99:second_deadlock_stack=1:handle_segv=0:handle_abort=0")

function(pyi_test_program name source)
    add_executable(${name} "${source}")
    target_link_libraries(${name} PRIVATE pyisolate_host ${ARGN})
    if(TARGET pyisolate_link)
        target_link_libraries(${name} PRIVATE pyisolate_link)
    endif()
    target_compile_definitions(${name} PRIVATE PYI_SOURCE_DIR="${CMAKE_SOURCE_DIR}" PYI_BUILD_DIR="${CMAKE_BINARY_DIR}")
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
endfunction()

file(GLOB unit_sources CONFIGURE_DEPENDS tests/unit/test_*.c)
foreach(source IN LISTS unit_sources)
    get_filename_component(name "${source}" NAME_WE)
    pyi_test_program(${name} "${source}" pyi::cmocka)
    target_include_directories(${name} PRIVATE tests/unit)
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
    set_tests_properties(${name} PROPERTIES TIMEOUT 120 ENVIRONMENT "${test_environment}")
endforeach()

if(PYI_FUZZ)
    file(GLOB fuzz_sources CONFIGURE_DEPENDS tests/fuzz/fuzz_*.c)
    foreach(source IN LISTS fuzz_sources)
        get_filename_component(name "${source}" NAME_WE)
        pyi_test_program(${name} "${source}")
        target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    endforeach()
endif()

if(PYI_BENCH)
    file(GLOB bench_sources CONFIGURE_DEPENDS tests/bench/bench_*.c)
    foreach(source IN LISTS bench_sources)
        get_filename_component(name "${source}" NAME_WE)
        pyi_test_program(${name} "${source}")
    endforeach()
endif()
