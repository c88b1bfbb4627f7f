# Finds what we link against. All that is missing is named at once, each with its Debian package.

set(pyi_missing "")

# pyi_find(NAME HEADER LIBRARY PACKAGE [SUFFIX...]): an imported target pyi::NAME.
function(pyi_find name header library package)
    find_path(PYI_${name}_INCLUDE ${header} PATH_SUFFIXES ${ARGN})
    find_library(PYI_${name}_LIBRARY NAMES ${library})
    mark_as_advanced(PYI_${name}_INCLUDE PYI_${name}_LIBRARY)
    if(NOT PYI_${name}_INCLUDE OR NOT PYI_${name}_LIBRARY)
        set(pyi_missing "${pyi_missing};${package}" PARENT_SCOPE)
        return()
    endif()
    add_library(pyi::${name} UNKNOWN IMPORTED GLOBAL)
    set_target_properties(pyi::${name} PROPERTIES
        IMPORTED_LOCATION "${PYI_${name}_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${PYI_${name}_INCLUDE}")
endfunction()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
pyi_find(nng nng/nng.h nng libnng-dev)
pyi_find(lua lua.h lua5.4 liblua5.4-dev lua5.4 lua-5.4 lua54)
pyi_find(jansson jansson.h jansson libjansson-dev)
pyi_find(mbedcrypto mbedtls/sha256.h mbedcrypto libmbedtls-dev)
if(PYI_TESTS)
    pyi_find(cmocka cmocka.h cmocka libcmocka-dev)
endif()

# Headers only, of any CPython from 3.9 on: the core keeps to the stable ABI of 3.9.
find_package(Python3 3.9 QUIET COMPONENTS Development.Module)
if(NOT Python3_Development.Module_FOUND)
    list(APPEND pyi_missing python3-dev)
endif()

if(pyi_missing)
    list(REMOVE_ITEM pyi_missing "")
    list(JOIN pyi_missing " " packages)
    message(FATAL_ERROR "Libraries are missing. On Debian: apt-get install ${packages}   (or: make setup)")
endif()
