# Fuzzing (tests/fuzz/README.md). With KEYTRAIL_FUZZ each target is a libFuzzer program, bin/fuzz_<target>;
# without, and with any compiler, it is a program that ctest runs over the inputs in the repository.
set(KEYTRAIL_FUZZ_CORPUS ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus)
set(KEYTRAIL_FUZZ_REGRESSIONS ${CMAKE_SOURCE_DIR}/tests/fuzz/regressions)

if(KEYTRAIL_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "KEYTRAIL_FUZZ needs clang: cmake --preset fuzz")
  endif()
  add_custom_target(fuzz_targets)
else()
  add_library(keytrail_fuzz_replay STATIC fuzz/replay_main.cc)
  target_link_libraries(keytrail_fuzz_replay PUBLIC keytrail_options)
endif()

# keytrail_fuzz(tcp SOURCES fuzz/tcp_target.cc DEPENDS agent_tcp)
function(keytrail_fuzz target)
  cmake_parse_arguments(FUZZ "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  list(TRANSFORM FUZZ_DEPENDS PREPEND keytrail_)
  if(KEYTRAIL_FUZZ)
    set(name fuzz_${target})
    add_executable(${name} ${FUZZ_SOURCES})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    add_dependencies(fuzz_targets ${name})
  else()
    set(name fuzz_replay_${target})
    add_executable(${name} ${FUZZ_SOURCES})
    target_link_libraries(${name} PRIVATE keytrail_fuzz_replay)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME ${name} COMMAND ${name} ${KEYTRAIL_FUZZ_CORPUS}/${target} ${KEYTRAIL_FUZZ_REGRESSIONS}/${target})
  endif()
  target_link_libraries(${name} PRIVATE keytrail_options ${FUZZ_DEPENDS} ${FUZZ_PRIVATE_DEPENDS})
endfunction()

add_library(keytrail_fuzz_call_checks STATIC fuzz/call_checks.cc)
target_link_libraries(keytrail_fuzz_call_checks PUBLIC keytrail_options keytrail_agent_grpc keytrail_common)
add_library(keytrail_fuzz_http2_target STATIC fuzz/http2_target.cc)
target_link_libraries(keytrail_fuzz_http2_target PUBLIC keytrail_options keytrail_agent_http2)

keytrail_fuzz(packet SOURCES fuzz/packet_target.cc DEPENDS agent_packet)
keytrail_fuzz(tcp SOURCES fuzz/tcp_target.cc DEPENDS agent_tcp)
keytrail_fuzz(tcp_whole SOURCES fuzz/tcp_whole_target.cc DEPENDS agent_tcp)
keytrail_fuzz(http2_start SOURCES fuzz/http2_start_target.cc DEPENDS fuzz_http2_target)
keytrail_fuzz(http2_late SOURCES fuzz/http2_late_target.cc DEPENDS fuzz_http2_target)
keytrail_fuzz(grpc SOURCES fuzz/grpc_target.cc DEPENDS fuzz_call_checks)
keytrail_fuzz(schema
              SOURCES fuzz/schema_target.cc unit/agent/schema/facts_oracle.cc unit/agent/schema/message_maker.cc
              DEPENDS fuzz_call_checks kvproto
              PRIVATE_DEPENDS protobuf::libprotobuf)
keytrail_fuzz(naming SOURCES fuzz/naming_target.cc DEPENDS agent_schema)
keytrail_fuzz(error_text SOURCES fuzz/error_text_target.cc DEPENDS agent_schema)
keytrail_fuzz(capture SOURCES fuzz/capture_target.cc DEPENDS agent_capture)
keytrail_fuzz(records SOURCES fuzz/records_target.cc DEPENDS fuzz_call_checks)
keytrail_fuzz(spool SOURCES fuzz/spool_target.cc DEPENDS agent_ship)
keytrail_fuzz(answer SOURCES fuzz/answer_target.cc DEPENDS agent_ship PRIVATE_DEPENDS keytrail_record_proto)
keytrail_fuzz(receiver SOURCES fuzz/receiver_target.cc DEPENDS collector_receive common
              PRIVATE_DEPENDS keytrail_record_proto PkgConfig::ZMQ)
keytrail_fuzz(query SOURCES fuzz/query_target.cc DEPENDS collector_store)
keytrail_fuzz(config SOURCES fuzz/config_target.cc DEPENDS collector_receive common)
keytrail_fuzz(output SOURCES fuzz/output_target.cc DEPENDS fuzz_call_checks agent_ship)
keytrail_fuzz(pipeline SOURCES fuzz/pipeline_target.cc
              DEPENDS fuzz_call_checks agent_http2 agent_tcp agent_packet)

# Makes the inputs that fuzzing begins with (renew_corpus.sh). Built always, so that it cannot rot unseen.
add_executable(fuzz_seeds fuzz/seed_corpus.cc unit/agent/schema/message_maker.cc)
target_link_libraries(fuzz_seeds PRIVATE keytrail_fuzz_call_checks keytrail_agent_ship keytrail_agent_capture keytrail_agent_packet
                      keytrail_agent_tcp keytrail_agent_http2 keytrail_kvproto keytrail_record_proto
                      protobuf::libprotobuf PkgConfig::ZSTD)
if(KEYTRAIL_FUZZ)
  add_dependencies(fuzz_targets fuzz_seeds)
endif()
