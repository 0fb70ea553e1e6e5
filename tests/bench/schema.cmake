add_executable(schema_bench bench/schema_bench.cc)
target_link_libraries(schema_bench PRIVATE keytrail_options keytrail_agent_schema keytrail_kvproto
                      protobuf::libprotobuf benchmark::benchmark_main)
set_target_properties(schema_bench PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
