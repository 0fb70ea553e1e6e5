keytrail_test(error_text_test SOURCES unit/agent/schema/error_text_test.cc DEPENDS agent_schema)
keytrail_test(schema_test SOURCES unit/agent/schema/schema_test.cc unit/agent/schema/raw_text_test.cc
                      unit/agent/schema/wire_cursor_test.cc unit/agent/schema/caps_test.cc
              DEPENDS agent_schema PRIVATE_DEPENDS protobuf::libprotobuf)
target_compile_definitions(schema_test PRIVATE KEYTRAIL_KVPROTO_DIR="${CMAKE_SOURCE_DIR}/proto/kvproto")
keytrail_test(walker_test
              SOURCES unit/agent/schema/walker_test.cc unit/agent/schema/walker_oracle_test.cc
                      unit/agent/schema/facts_oracle.cc unit/agent/schema/message_maker.cc
                      unit/agent/schema/count_allocations.cc
              DEPENDS agent_schema kvproto PRIVATE_DEPENDS protobuf::libprotobuf)
# decode_file is of the gRPC room's tests.
keytrail_test(real_messages_test
              SOURCES unit/agent/schema/real_messages_test.cc unit/agent/schema/facts_oracle.cc
                      unit/agent/schema/message_maker.cc
              DEPENDS decode_file agent_schema kvproto PRIVATE_DEPENDS protobuf::libprotobuf)
target_compile_definitions(real_messages_test PRIVATE KEYTRAIL_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data")
keytrail_test(naming_test SOURCES unit/agent/schema/naming_test.cc
              DEPENDS agent_schema kvproto PRIVATE_DEPENDS protobuf::libprotobuf)
