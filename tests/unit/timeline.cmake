# What a timeline reads, and how it is drawn.
keytrail_test(timeline_pure_test SOURCES unit/store/timeline_pure_test.cc DEPENDS collector_store common)
keytrail_test(timeline_rows_test SOURCES unit/store/timeline_rows_test.cc DEPENDS collector_store common)
keytrail_test(timeline_text_test SOURCES unit/report/timeline_text_test.cc DEPENDS collector_report common)
keytrail_test(timeline_perfetto_test SOURCES unit/report/timeline_perfetto_test.cc DEPENDS collector_report common)
keytrail_test(time_argument_test SOURCES unit/cli/time_argument_test.cc ${CMAKE_SOURCE_DIR}/collector/cli/time_argument.cc)
