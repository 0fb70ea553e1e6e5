# What is installed beside the programs, and the packages: `cmake --build build/release --target packages`.
# Plain `cmake --install` takes programs, pages and completions alone; units and what belongs to them name the paths of
# the Debian packages and come with those.
include(GNUInstallDirs)
find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)

set(KEYTRAIL_DEPLOY ${CMAKE_SOURCE_DIR}/deploy)

# keytrail_daemon(agent ENABLE no STATE spool): unit, defaults, user, folders and maintainer scripts of a daemon.
# `yes` enables and starts the unit at the first installation; STATE is its folder below /var/lib/keytrail.
function(keytrail_daemon name)
  cmake_parse_arguments(DAEMON "" "ENABLE;STATE" "" ${ARGN})
  set(unit keytrail-${name})
  set(enable ${DAEMON_ENABLE})
  set(state ${DAEMON_STATE})
  set(files ${KEYTRAIL_DEPLOY}/systemd/${unit})
  install(FILES ${files}.service DESTINATION lib/systemd/system COMPONENT ${name} EXCLUDE_FROM_ALL)
  install(FILES ${files}.sysusers DESTINATION lib/sysusers.d RENAME ${unit}.conf COMPONENT ${name} EXCLUDE_FROM_ALL)
  install(FILES ${files}.tmpfiles DESTINATION lib/tmpfiles.d RENAME ${unit}.conf COMPONENT ${name} EXCLUDE_FROM_ALL)
  install(FILES ${files}.default DESTINATION /etc/default RENAME ${unit} COMPONENT ${name} EXCLUDE_FROM_ALL)
  set(control ${CMAKE_BINARY_DIR}/debian/${name})
  foreach(script postinst prerm postrm)
    configure_file(${KEYTRAIL_DEPLOY}/debian/${script}.in ${control}/${script} @ONLY
                   FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  endforeach()
  file(WRITE ${control}/conffiles "/etc/default/${unit}\n")
  string(TOUPPER ${name} component)
  set(CPACK_DEBIAN_${component}_PACKAGE_CONTROL_EXTRA
      ${control}/postinst ${control}/prerm ${control}/postrm ${control}/conffiles PARENT_SCOPE)
  set(CPACK_DEBIAN_${component}_PACKAGE_CONTROL_STRICT_PERMISSION ON PARENT_SCOPE)
  set(CPACK_DEBIAN_${component}_PACKAGE_DEPENDS
      "systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles" PARENT_SCOPE)
  set(CPACK_DEBIAN_${component}_PACKAGE_NAME ${unit} PARENT_SCOPE)
  set(CPACK_DEBIAN_${component}_PACKAGE_SECTION net PARENT_SCOPE)
  set(CPACK_DEBIAN_${component}_PACKAGE_RECOMMENDS keytrail PARENT_SCOPE)
endfunction()

keytrail_daemon(agent ENABLE no STATE spool)
keytrail_daemon(collector ENABLE yes STATE collector)
set(CPACK_DEBIAN_CLI_PACKAGE_NAME keytrail)
set(CPACK_DEBIAN_CLI_PACKAGE_SECTION net)
set(CPACK_DEBIAN_CLI_PACKAGE_SUGGESTS openssh-client)  # keytrail fleet

# keytrail_help(keytrail-agent COMPONENT agent SECTION 8): the manual page and the completions of a program, made from
# its --help with each build, so that none of them can fall behind.
set(KEYTRAIL_HELP ${CMAKE_BINARY_DIR}/help)
function(keytrail_help program)
  cmake_parse_arguments(HELP "" "COMPONENT;SECTION" "" ${ARGN})
  set(page ${program}.${HELP_SECTION})
  set(template ${CMAKE_SOURCE_DIR}/docs/man/${page}.in)
  set(scripts ${KEYTRAIL_DEPLOY}/help)
  add_custom_command(
    OUTPUT ${KEYTRAIL_HELP}/${page} ${KEYTRAIL_HELP}/${program} ${KEYTRAIL_HELP}/_${program} ${KEYTRAIL_HELP}/${program}.fish
    COMMAND ${CMAKE_COMMAND} -E make_directory ${KEYTRAIL_HELP}
    COMMAND ${Python3_EXECUTABLE} -B ${scripts}/man_pages.py $<TARGET_FILE:${program}> ${template} ${KEYTRAIL_HELP}/${page}
    COMMAND ${Python3_EXECUTABLE} -B ${scripts}/completions.py $<TARGET_FILE:${program}> bash ${KEYTRAIL_HELP}/${program}
    COMMAND ${Python3_EXECUTABLE} -B ${scripts}/completions.py $<TARGET_FILE:${program}> zsh ${KEYTRAIL_HELP}/_${program}
    COMMAND ${Python3_EXECUTABLE} -B ${scripts}/completions.py $<TARGET_FILE:${program}> fish ${KEYTRAIL_HELP}/${program}.fish
    DEPENDS ${program} ${template} ${scripts}/help_text.py ${scripts}/man_pages.py ${scripts}/completions.py
    COMMENT "Manual page and completions of ${program}"
    VERBATIM)
  add_custom_target(${program}-help ALL DEPENDS ${KEYTRAIL_HELP}/${page})
  install(FILES ${KEYTRAIL_HELP}/${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${HELP_SECTION} COMPONENT ${HELP_COMPONENT})
  install(FILES ${KEYTRAIL_HELP}/${program} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
          COMPONENT ${HELP_COMPONENT})
  # Where Debian's zsh and fish look for what packages bring.
  install(FILES ${KEYTRAIL_HELP}/_${program} DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions
          COMPONENT ${HELP_COMPONENT})
  install(FILES ${KEYTRAIL_HELP}/${program}.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d
          COMPONENT ${HELP_COMPONENT})
endfunction()

keytrail_help(keytrail-agent COMPONENT agent SECTION 8)
keytrail_help(keytrail-collector COMPONENT collector SECTION 8)
keytrail_help(keytrail COMPONENT cli SECTION 1)

# The agent for hosts without its libraries: the same objects, linked with a path to the folder beside it. A DT_RPATH,
# unlike a RUNPATH, is also heeded for what the libraries need themselves.
add_executable(keytrail-agent-portable EXCLUDE_FROM_ALL $<TARGET_OBJECTS:keytrail-agent>)
get_target_property(KEYTRAIL_AGENT_LIBRARIES keytrail-agent LINK_LIBRARIES)
target_link_libraries(keytrail-agent-portable PRIVATE ${KEYTRAIL_AGENT_LIBRARIES})
target_link_options(keytrail-agent-portable PRIVATE -Wl,--disable-new-dtags)
set_target_properties(keytrail-agent-portable PROPERTIES
  OUTPUT_NAME keytrail-agent RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/portable INSTALL_RPATH "$ORIGIN/../lib")
# glibc is the host's: its parts belong together, and to the host's name services.
install(TARGETS keytrail-agent-portable
  RUNTIME_DEPENDENCIES
    PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|resolv)\\.so\\."
    POST_EXCLUDE_REGEXES "/ld-linux[^/]*$"
  RUNTIME DESTINATION bin COMPONENT portable EXCLUDE_FROM_ALL
  LIBRARY DESTINATION lib COMPONENT portable EXCLUDE_FROM_ALL)
install(FILES ${KEYTRAIL_HELP}/keytrail-agent.8 DESTINATION share/man/man8 COMPONENT portable EXCLUDE_FROM_ALL)

# A licence file, once the repository has one, is the packages' copyright file.
if(EXISTS ${CMAKE_SOURCE_DIR}/LICENSE)
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/keytrail-agent RENAME copyright COMPONENT agent EXCLUDE_FROM_ALL)
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/keytrail-collector RENAME copyright COMPONENT collector EXCLUDE_FROM_ALL)
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/keytrail RENAME copyright COMPONENT cli EXCLUDE_FROM_ALL)
endif()

set(CPACK_PACKAGE_NAME keytrail)
set(CPACK_PACKAGE_VENDOR keytrail)
set(CPACK_PACKAGE_CONTACT "keytrail maintainers <keytrail@localhost>")
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL agent collector cli)
set(CPACK_COMPONENT_AGENT_DESCRIPTION "reads the gRPC calls of TiDB, PD and TiKV passively
keytrail-agent decodes the gRPC calls of TiDB, PD and TiKV out of packets and
ships them to a collector. The service is installed disabled: it captures
nothing before somebody enables it.")
set(CPACK_COMPONENT_COLLECTOR_DESCRIPTION "says which component of a TiDB cluster was wrong about a range
keytrail-collector receives the calls that keytrail-agent saw on each host,
stores them, and says which of TiDB, PD and TiKV first stated a wrong range.
The service is enabled, and listens on loopback until it is told otherwise.")
set(CPACK_COMPONENT_CLI_DESCRIPTION "investigates captures and asks keytrail's collector
keytrail reads captures of a TiDB cluster's hosts and says which component
first stated a wrong range, asks a collector with SQL, draws timelines, and
makes the keys of agents and collectors.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_ARCHIVE_COMPONENT_INSTALL ON)
set(CPACK_ARCHIVE_PORTABLE_FILE_NAME keytrail-agent-${PROJECT_VERSION}-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_PROJECT_CONFIG_FILE ${KEYTRAIL_DEPLOY}/cpack_generator.cmake)
include(CPack)

# CPack's own `package` target would build everything first, tests included.
add_custom_target(packages
  COMMAND ${CMAKE_CPACK_COMMAND} --config ${CMAKE_BINARY_DIR}/CPackConfig.cmake -G DEB -B ${CMAKE_BINARY_DIR}/packages
  COMMAND ${CMAKE_CPACK_COMMAND} --config ${CMAKE_BINARY_DIR}/CPackConfig.cmake -G TGZ -B ${CMAKE_BINARY_DIR}/packages
  DEPENDS keytrail-agent-help keytrail-collector-help keytrail-help keytrail-agent-portable
  WORKING_DIRECTORY ${CMAKE_BINARY_DIR} USES_TERMINAL VERBATIM)
