# SQL of users, and the service.
keytrail_test(sandbox_test SOURCES unit/store/sandbox_test.cc DEPENDS test_records collector_store)
keytrail_test(turnstile_test SOURCES unit/query/turnstile_test.cc DEPENDS collector_query)
keytrail_test(service_test SOURCES unit/query/service_test.cc DEPENDS test_records collector_query
              PRIVATE_DEPENDS keytrail_query_proto)
keytrail_test(audit_log_test SOURCES unit/query/audit_log_test.cc DEPENDS collector_query)
keytrail_test(watch_view_test SOURCES unit/cli/watch_view_test.cc ${CMAKE_SOURCE_DIR}/collector/cli/watch_view.cc
              DEPENDS collector_query collector_report)
