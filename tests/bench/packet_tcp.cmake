add_executable(packet_tcp_bench bench/packet_tcp_bench.cc)
target_link_libraries(packet_tcp_bench PRIVATE keytrail_options keytrail_agent_capture keytrail_agent_tcp
                      benchmark::benchmark)
target_compile_definitions(packet_tcp_bench PRIVATE
                           KEYTRAIL_SHARED_DATA_DEFAULT="${CMAKE_SOURCE_DIR}/../shared/data")
set_target_properties(packet_tcp_bench PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
