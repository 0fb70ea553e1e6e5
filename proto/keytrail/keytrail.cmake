# Our own protocol: proto/keytrail/record.pb.h for agent/ship, collector/receive and the tests.
set(KEYTRAIL_RECORD_PROTO ${CMAKE_SOURCE_DIR}/proto/keytrail/record.proto)
set(KEYTRAIL_RECORD_STEM ${CMAKE_BINARY_DIR}/proto/keytrail/record.pb)
add_custom_command(
  OUTPUT ${KEYTRAIL_RECORD_STEM}.cc ${KEYTRAIL_RECORD_STEM}.h
  COMMAND protobuf::protoc --cpp_out=${CMAKE_BINARY_DIR} -I ${CMAKE_SOURCE_DIR} ${KEYTRAIL_RECORD_PROTO}
  DEPENDS ${KEYTRAIL_RECORD_PROTO}
  COMMENT "protoc record.proto"
  VERBATIM)
add_library(keytrail_record_proto STATIC ${KEYTRAIL_RECORD_STEM}.cc)
target_include_directories(keytrail_record_proto SYSTEM PUBLIC ${CMAKE_BINARY_DIR})
target_link_libraries(keytrail_record_proto PUBLIC protobuf::libprotobuf Threads::Threads)
