add_executable(records_bench bench/records_bench.cc)
target_link_libraries(records_bench PRIVATE keytrail_options keytrail_test_records keytrail_agent_ship
                      keytrail_collector_receive keytrail_collector_store benchmark::benchmark SQLite::SQLite3)
set_target_properties(records_bench PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
