add_executable(grpc_bench bench/grpc_bench.cc)
target_link_libraries(grpc_bench PRIVATE keytrail_options keytrail_call_harness benchmark::benchmark)
set_target_properties(grpc_bench PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
