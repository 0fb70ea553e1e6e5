# The gRPC room.
add_library(keytrail_call_harness STATIC unit/agent/grpc/call_harness.cc)
target_link_libraries(keytrail_call_harness PUBLIC keytrail_agent_grpc)

keytrail_test(grpc_parts_test
  SOURCES unit/agent/grpc/message_assembler_test.cc unit/agent/grpc/message_search_test.cc
          unit/agent/grpc/decompressor_test.cc unit/agent/grpc/batch_split_test.cc
          unit/agent/grpc/tables_test.cc
  DEPENDS agent_grpc call_harness
  PRIVATE_DEPENDS ZLIB::ZLIB)
keytrail_test(grpc_calls_test
  SOURCES unit/agent/grpc/unary_test.cc unit/agent/grpc/streams_test.cc unit/agent/grpc/batch_commands_test.cc
          unit/agent/grpc/query_region_test.cc unit/agent/grpc/loss_test.cc unit/agent/grpc/caps_test.cc
          unit/agent/grpc/nameless_test.cc unit/agent/grpc/detail_test.cc
          unit/agent/grpc/total_caps_test.cc unit/agent/grpc/nameless_caps_test.cc
  DEPENDS agent_grpc call_harness
  PRIVATE_DEPENDS ZLIB::ZLIB)

# A capture file through all rooms of the agent: other tests use it too.
add_library(keytrail_decode_file STATIC support/decode_file.cc)
target_link_libraries(keytrail_decode_file PUBLIC keytrail_agent_grpc keytrail_agent_http2 keytrail_agent_tcp
                      keytrail_agent_packet keytrail_agent_capture)
target_compile_definitions(keytrail_decode_file PRIVATE
                           KEYTRAIL_SHARED_DATA_DEFAULT="${CMAKE_SOURCE_DIR}/../shared/data")
keytrail_test(shared_captures_test
  SOURCES unit/agent/grpc/shared_captures_test.cc
  DEPENDS call_harness decode_file)
