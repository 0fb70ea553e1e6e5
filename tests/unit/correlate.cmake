# Correlation and its reports.
add_library(keytrail_test_script STATIC unit/correlate/script.cc unit/correlate/random_cluster.cc)
target_link_libraries(keytrail_test_script PUBLIC keytrail_options keytrail_collector_correlate)

keytrail_test(correlate_rules_test SOURCES unit/correlate/rules_test.cc
              DEPENDS test_script collector_correlate collector_report)
keytrail_test(correlate_incidents_test SOURCES unit/correlate/incidents_test.cc DEPENDS test_script collector_correlate)
keytrail_test(correlate_reach_test SOURCES unit/correlate/reach_test.cc DEPENDS test_script collector_correlate)
keytrail_test(correlate_invariance_test SOURCES unit/correlate/invariance_test.cc
              DEPENDS test_script test_records collector_correlate collector_report)
keytrail_test(correlate_pairing_test SOURCES unit/correlate/pairing_test.cc DEPENDS test_script collector_correlate)
keytrail_test(correlate_random_cluster_test SOURCES unit/correlate/random_cluster_test.cc
              DEPENDS test_script collector_correlate)
# Included after unit/agent_grpc.cmake, which makes decode_file.
keytrail_test(correlate_scenarios_test SOURCES unit/correlate/scenarios_test.cc
              DEPENDS test_script decode_file agent_schema collector_correlate collector_report common)
keytrail_test(correlate_key_forms_test SOURCES unit/correlate/key_forms_test.cc DEPENDS test_script collector_correlate)
keytrail_test(correlate_twins_test SOURCES unit/correlate/twins_test.cc DEPENDS test_script collector_correlate)
keytrail_test(correlate_settle_test SOURCES unit/correlate/settle_test.cc DEPENDS test_script collector_correlate)
keytrail_test(correlate_clock_pair_test SOURCES unit/correlate/clock_pair_test.cc DEPENDS collector_correlate)
keytrail_test(correlate_clock_graph_test SOURCES unit/correlate/clock_graph_test.cc DEPENDS collector_correlate)
