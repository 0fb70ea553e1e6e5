# Benchmarks: built with the tests, run by hand. whole_process.py measures the agent as a process; the rooms'
# own files measure one room with Google Benchmark.

function(keytrail_bench_tool name)
  add_executable(${name} bench/${name}.cc)
  target_link_libraries(${name} PRIVATE keytrail_options PkgConfig::PCAP)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
endfunction()
keytrail_bench_tool(repeat_capture)
keytrail_bench_tool(bare_loop)

include(bench/correlate.cmake)

find_package(benchmark QUIET)
if(benchmark_FOUND)
  include(bench/packet_tcp.cmake OPTIONAL)
  include(bench/http2.cmake OPTIONAL)
  include(bench/schema.cmake OPTIONAL)
  include(bench/grpc.cmake OPTIONAL)
  include(bench/records.cmake OPTIONAL)
endif()
