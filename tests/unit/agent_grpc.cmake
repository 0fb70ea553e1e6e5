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
  DEPENDS agent_grpc call_harness
  PRIVATE_DEPENDS ZLIB::ZLIB)
