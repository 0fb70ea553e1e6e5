# Our own protocols. record.proto, between agent and collector: proto/keytrail/record.pb.h for agent/ship,
# collector/receive and the tests. query.proto, the collector's gRPC service: for collector/query and the tests.
function(keytrail_generate stem sources options)
  add_custom_command(
    OUTPUT ${sources}
    COMMAND protobuf::protoc --cpp_out=${CMAKE_BINARY_DIR} ${options} -I ${CMAKE_SOURCE_DIR}
            ${CMAKE_SOURCE_DIR}/proto/keytrail/${stem}.proto
    DEPENDS ${CMAKE_SOURCE_DIR}/proto/keytrail/${stem}.proto
    COMMENT "protoc ${stem}.proto"
    COMMAND_EXPAND_LISTS
    VERBATIM)
endfunction()

set(KEYTRAIL_RECORD_STEM ${CMAKE_BINARY_DIR}/proto/keytrail/record.pb)
keytrail_generate(record "${KEYTRAIL_RECORD_STEM}.cc;${KEYTRAIL_RECORD_STEM}.h" "")
add_library(keytrail_record_proto STATIC ${KEYTRAIL_RECORD_STEM}.cc)
target_include_directories(keytrail_record_proto SYSTEM PUBLIC ${CMAKE_BINARY_DIR})
target_link_libraries(keytrail_record_proto PUBLIC protobuf::libprotobuf Threads::Threads)

set(KEYTRAIL_QUERY_STEM ${CMAKE_BINARY_DIR}/proto/keytrail/query)
keytrail_generate(query
  "${KEYTRAIL_QUERY_STEM}.pb.cc;${KEYTRAIL_QUERY_STEM}.pb.h;${KEYTRAIL_QUERY_STEM}.grpc.pb.cc;${KEYTRAIL_QUERY_STEM}.grpc.pb.h"
  "--grpc_out=${CMAKE_BINARY_DIR};--plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN}")
add_library(keytrail_query_proto STATIC ${KEYTRAIL_QUERY_STEM}.pb.cc ${KEYTRAIL_QUERY_STEM}.grpc.pb.cc)
target_include_directories(keytrail_query_proto SYSTEM PUBLIC ${CMAKE_BINARY_DIR})
target_link_libraries(keytrail_query_proto PUBLIC protobuf::libprotobuf PkgConfig::GRPC Threads::Threads)
