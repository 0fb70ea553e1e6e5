# live_node: a small TiDB cluster of gRPC nodes for e2e_live_cluster, and a gRPC load for the agent's cost.
# The programs themselves read messages by descriptors; these classes are for the nodes alone.
set(LIVE_PROTO_DIR ${CMAKE_BINARY_DIR}/tests/live/kvproto)
set(LIVE_PROTO_NAMES apipb brpb coprocessor deadlock disaggregated disk_usage encryptionpb eraftpb errorpb import_sstpb kvrpcpb
    metapb mpp pdpb raft_cmdpb raft_serverpb replication_modepb resource_manager tikvpb tracepb)
set(LIVE_SERVICE_NAMES pdpb tikvpb)
set(LIVE_PROTO_FILES ${LIVE_PROTO_NAMES})
list(TRANSFORM LIVE_PROTO_FILES PREPEND ${CMAKE_SOURCE_DIR}/proto/kvproto/)
list(TRANSFORM LIVE_PROTO_FILES APPEND .proto)
set(LIVE_SERVICE_FILES ${LIVE_SERVICE_NAMES})
list(TRANSFORM LIVE_SERVICE_FILES PREPEND ${CMAKE_SOURCE_DIR}/proto/kvproto/)
list(TRANSFORM LIVE_SERVICE_FILES APPEND .proto)
set(LIVE_PROTO_SOURCES)
set(LIVE_PROTO_HEADERS)
foreach(name ${LIVE_PROTO_NAMES})
  list(APPEND LIVE_PROTO_SOURCES ${LIVE_PROTO_DIR}/${name}.pb.cc)
  list(APPEND LIVE_PROTO_HEADERS ${LIVE_PROTO_DIR}/${name}.pb.h)
endforeach()
foreach(name ${LIVE_SERVICE_NAMES})
  list(APPEND LIVE_PROTO_SOURCES ${LIVE_PROTO_DIR}/${name}.grpc.pb.cc)
  list(APPEND LIVE_PROTO_HEADERS ${LIVE_PROTO_DIR}/${name}.grpc.pb.h)
endforeach()
file(MAKE_DIRECTORY ${LIVE_PROTO_DIR})
add_custom_command(
  OUTPUT ${LIVE_PROTO_SOURCES} ${LIVE_PROTO_HEADERS}
  COMMAND protobuf::protoc -I ${CMAKE_SOURCE_DIR}/proto/kvproto --cpp_out=${LIVE_PROTO_DIR} ${LIVE_PROTO_FILES}
  COMMAND protobuf::protoc -I ${CMAKE_SOURCE_DIR}/proto/kvproto --grpc_out=${LIVE_PROTO_DIR}
          --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN} ${LIVE_SERVICE_FILES}
  DEPENDS ${LIVE_PROTO_FILES}
  COMMENT "protoc for the live nodes"
  VERBATIM)
add_library(live_protos STATIC ${LIVE_PROTO_SOURCES})
target_include_directories(live_protos SYSTEM PUBLIC ${LIVE_PROTO_DIR})
target_link_libraries(live_protos PUBLIC protobuf::libprotobuf PkgConfig::GRPC Threads::Threads)
# Generated, large, and never the bottleneck: what counts is how long it compiles.
target_compile_options(live_protos PRIVATE -O1 -g0 -w)
set_target_properties(live_protos PROPERTIES CXX_CLANG_TIDY "")

add_executable(live_node
  live/client_node.cc live/live_node.cc live/load.cc live/node.cc live/pd_client.cc live/pd_node.cc live/raft_streams.cc
  live/region_cache.cc live/region_tree.cc live/statements.cc live/store_checks.cc live/store_node.cc
  live/store_pool.cc live/store_regions.cc)
target_link_libraries(live_node PRIVATE keytrail_options keytrail_common live_protos CLI11::CLI11)
target_include_directories(live_node SYSTEM PRIVATE ${LIVE_PROTO_DIR})
set_target_properties(live_node PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
