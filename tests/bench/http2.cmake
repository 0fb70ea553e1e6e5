add_executable(http2_bench bench/http2_bench.cc)
target_link_libraries(http2_bench PRIVATE keytrail_options keytrail_agent_http2 PkgConfig::NGHTTP2 benchmark::benchmark)
set_target_properties(http2_bench PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
