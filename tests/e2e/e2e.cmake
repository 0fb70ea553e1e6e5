# Tests of the built programs, in Python 3 with nothing but its standard library. Each file is one test.
find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)

set(KEYTRAIL_SHARED_DATA "${CMAKE_SOURCE_DIR}/../shared/data" CACHE PATH
    "The large captures; tests that want more than tests/data say so when they are absent")

add_test(NAME include_rule COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/support/include_rule.py
         ${CMAKE_SOURCE_DIR})
add_test(NAME include_rule_self_test
         COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/support/include_rule.py --self-test)

add_test(NAME limits_doc COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/support/limits_doc.py
         ${CMAKE_SOURCE_DIR})

add_test(NAME mutate COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/support/mutate_test.py)

# Under a sanitizer the programs are some ten times slower: the bundled captures must do.
set(KEYTRAIL_E2E_ENVIRONMENT "KEYTRAIL_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}"
    "KEYTRAIL_DEFAULT_SHARED_DATA=${KEYTRAIL_SHARED_DATA}")
if(KEYTRAIL_SANITIZE)
  list(APPEND KEYTRAIL_E2E_ENVIRONMENT "KEYTRAIL_BUNDLED_ONLY=1")
endif()

# keytrail_e2e(bad_input): runs tests/e2e/test_bad_input.py against the binaries of this build.
function(keytrail_e2e name)
  add_test(NAME e2e_${name} COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/e2e/test_${name}.py -v)
  set_tests_properties(e2e_${name} PROPERTIES
    ENVIRONMENT "${KEYTRAIL_E2E_ENVIRONMENT}"
    TIMEOUT 900)
endfunction()

if(TARGET keytrail-agent)
  keytrail_e2e(agent_counts)
  keytrail_e2e(false_grpc)
  keytrail_e2e(tshark)
  keytrail_e2e(golden)
  keytrail_e2e(late_join)
  keytrail_e2e(bad_input)
  keytrail_e2e(links)
  keytrail_e2e(other_protocols)
  if(NOT KEYTRAIL_SANITIZE)  # its shadow memory is no memory of the agent's
    keytrail_e2e(memory)
  endif()
endif()
if(TARGET keytrail)
  keytrail_e2e(investigate)
  keytrail_e2e(clocks)
  keytrail_e2e(nat)
endif()
if(TARGET keytrail-collector)
  keytrail_e2e(timeline)
  keytrail_e2e(ship)
  keytrail_e2e(spool)
  keytrail_e2e(database)
  keytrail_e2e(store)
  keytrail_e2e(named_queries)
  keytrail_e2e(query)
  keytrail_e2e(live_verdict)
  keytrail_e2e(restraint)
  keytrail_e2e(live_capture)
  keytrail_e2e(live_process)
  if(NOT KEYTRAIL_SANITIZE)  # ten times slower they would not keep up
    keytrail_e2e(live_outage)
    keytrail_e2e(live_cluster)
  endif()
  keytrail_e2e(keys)
  keytrail_e2e(privileges)
  keytrail_e2e(redact)
  if(NOT KEYTRAIL_SANITIZE)  # a sanitizer wants to be preloaded first
    keytrail_e2e(adversity)
    keytrail_e2e(doctor)
  endif()
  keytrail_e2e(logs)
  keytrail_e2e(metrics)
  keytrail_e2e(tls)
  keytrail_e2e(audit)
  keytrail_e2e(watch)
  keytrail_e2e(help_pages)
  keytrail_e2e(fleet)
  keytrail_e2e(fleet_ssh)
  keytrail_e2e(docs)
endif()
