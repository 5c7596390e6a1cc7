# What `cmake --install` puts where: static libraries with headers, pkg-config and CMake files. The program
# is daemon/'s, unit files are systemd/'s.
include(CMakePackageConfigHelpers)
set(LYAP_CMAKE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/lyap)

# lyap_install(<target> <name in lyap::> <header folder>...)
function(lyap_install target name)
    if(NOT TARGET ${target})
        return()
    endif()
    set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
    install(TARGETS ${target} EXPORT lyap ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
    foreach(folder IN LISTS ARGN)
        install(DIRECTORY ${folder}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
    endforeach()
endfunction()

lyap_install(lyap lib ${PROJECT_SOURCE_DIR}/lib/include)
lyap_install(lyap_wire wire ${PROJECT_SOURCE_DIR}/lib/wire/include)
lyap_install(lyap_client client ${PROJECT_SOURCE_DIR}/clients/c/include)

# Relative to the .pc file, so that the tree may be moved or staged.
file(RELATIVE_PATH LYAP_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
foreach(module lyap lyap-client)
    configure_file(cmake/${module}.pc.in ${PROJECT_BINARY_DIR}/${module}.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/${module}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
configure_package_config_file(cmake/lyapConfig.cmake.in ${PROJECT_BINARY_DIR}/lyapConfig.cmake
    INSTALL_DESTINATION ${LYAP_CMAKE_FOLDER})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/lyapConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/lyapConfig.cmake ${PROJECT_BINARY_DIR}/lyapConfigVersion.cmake
    DESTINATION ${LYAP_CMAKE_FOLDER})
install(EXPORT lyap NAMESPACE lyap:: FILE lyapTargets.cmake DESTINATION ${LYAP_CMAKE_FOLDER})
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
