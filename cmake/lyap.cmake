# How every target of lyapd is built: C17 without extensions, hidden visibility, warnings, no value-changing
# floating-point optimisation. -Werror and sanitizers come from presets alone.

set(LYAP_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
    -Wwrite-strings -Wformat=2 -Wundef -Wvla)

# -Ofast and -ffast-math make isfinite(NaN) true: refuse them wherever they come from.
foreach(flags "${CMAKE_C_FLAGS}" "${CMAKE_C_FLAGS_RELEASE}" "${CMAKE_C_FLAGS_RELWITHDEBINFO}")
    if(flags MATCHES "-Ofast|-ffast-math|-ffinite-math-only|-funsafe-math")
        message(FATAL_ERROR "lyapd must not be built with ${CMAKE_MATCH_0}: NaN would pass every check")
    endif()
endforeach()

function(lyap_options target)
    set_target_properties(${target} PROPERTIES C_STANDARD 17 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF
        C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
    # No contraction: a sum is the same number on every CPU the kernels are compiled for.
    target_compile_options(${target} PRIVATE ${LYAP_WARNINGS} -ffp-contract=off -fno-omit-frame-pointer
        $<$<BOOL:${LYAP_WERROR}>:-Werror>)
    if(LYAP_SANITIZE)
        target_compile_options(${target} PRIVATE -fsanitize=${LYAP_SANITIZE} -fno-sanitize-recover=all)
        target_link_options(${target} PUBLIC -fsanitize=${LYAP_SANITIZE})
    endif()
    if(LYAP_FUZZ) # coverage feedback from every object, or the fuzzer is blind
        target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
    endif()
endfunction()

# lyap_library(<name> SOURCES ... [PUBLIC <include dirs>] [LINK <libraries>] [PRIVATE_LINK <libraries>]
#              [POSIX])  POSIX: the folder may use POSIX and GNU calls (lib may not).
function(lyap_library name)
    cmake_parse_arguments(A "POSIX" "" "SOURCES;PUBLIC;LINK;PRIVATE_LINK" ${ARGN})
    add_library(${name} STATIC ${A_SOURCES})
    lyap_options(${name})
    target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    foreach(dir IN LISTS A_PUBLIC)
        target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/${dir}>
            $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    endforeach()
    target_link_libraries(${name} PUBLIC ${A_LINK} PRIVATE ${A_PRIVATE_LINK})
    if(A_POSIX)
        target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
    endif()
    string(REPLACE "lyap_" "" alias ${name})
    add_library(lyap::${alias} ALIAS ${name})
endfunction()

# lyap_executable(<name> SOURCES ... [LINK ...] [OUTPUT name])
function(lyap_executable name)
    cmake_parse_arguments(A "" "OUTPUT" "SOURCES;LINK" ${ARGN})
    add_executable(${name} ${A_SOURCES})
    lyap_options(${name})
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
    target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_link_libraries(${name} PRIVATE ${A_LINK})
    if(A_OUTPUT)
        set_target_properties(${name} PROPERTIES OUTPUT_NAME ${A_OUTPUT})
    endif()
endfunction()

# lyap_test(<module> SOURCES ... [LINK ...] [TIMEOUT seconds] [ARGS ...]): one Check executable, one CTest test.
function(lyap_test name)
    cmake_parse_arguments(A "" "TIMEOUT" "SOURCES;LINK;ARGS" ${ARGN})
    if(NOT A_TIMEOUT)
        set(A_TIMEOUT 120)
    endif()
    lyap_executable(test_${name} SOURCES ${A_SOURCES} LINK ${A_LINK} lyap_test_support PkgConfig::CHECK)
    add_test(NAME ${name} COMMAND test_${name} ${A_ARGS} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${A_TIMEOUT} ENVIRONMENT "CK_DEFAULT_TIMEOUT=${A_TIMEOUT}")
    if(LYAP_SANITIZE)
        set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT "CK_FORK=no")
    endif()
endfunction()

# lyap_script_test(<name> COMMAND <program and arguments> [LABELS ...] [TIMEOUT seconds]): a test that
# is a script (Debian's Python: ${LYAP_PYTHON}). It finds the build in LYAP_BUILD_DIR and is skipped
# when it exits with 77. Label `release`: runs once, in the optimised build; `threads`: also under
# ThreadSanitizer.
find_program(LYAP_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH)
if(NOT LYAP_PYTHON)
    find_program(LYAP_PYTHON python3)
endif()
function(lyap_script_test name)
    cmake_parse_arguments(A "" "TIMEOUT" "COMMAND;LABELS" ${ARGN})
    if(NOT A_TIMEOUT)
        set(A_TIMEOUT 120)
    endif()
    add_test(NAME ${name} COMMAND ${A_COMMAND} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${A_TIMEOUT} SKIP_RETURN_CODE 77
        LABELS "${A_LABELS}" ENVIRONMENT
        "LYAP_BUILD_DIR=${PROJECT_BINARY_DIR};LYAP_SANITIZE=${LYAP_SANITIZE};PYTHONDONTWRITEBYTECODE=1")
endfunction()

# lyap_fuzz(<name> SOURCES ... [LINK ...]): a libFuzzer harness; without LYAP_FUZZ the same harness replays
# tests/fuzz/regression/<name>/* and the seeds as a CTest test.
function(lyap_fuzz name)
    cmake_parse_arguments(A "" "" "SOURCES;LINK" ${ARGN})
    set(corpus ${PROJECT_SOURCE_DIR}/tests/fuzz/regression/${name})
    if(LYAP_FUZZ)
        lyap_executable(fuzz_${name} SOURCES ${A_SOURCES} LINK ${A_LINK})
        target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
        target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    else()
        lyap_executable(fuzz_${name} SOURCES ${A_SOURCES} ${PROJECT_SOURCE_DIR}/tests/support/fuzz_replay.c
            LINK ${A_LINK})
    endif()
    add_test(NAME fuzz_${name} COMMAND fuzz_${name} -runs=0 ${corpus})
    set_tests_properties(fuzz_${name} PROPERTIES TIMEOUT 120)
endfunction()
