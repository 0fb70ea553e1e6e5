# Records on the wire, shipping, receiving, storing.
add_library(keytrail_test_records STATIC support/records.cc)
target_link_libraries(keytrail_test_records PUBLIC keytrail_options keytrail_common)

keytrail_test(crc32c_test SOURCES unit/common/crc32c_test.cc DEPENDS common)
keytrail_test(check_list_test SOURCES unit/common/check_list_test.cc DEPENDS common)
keytrail_test(plain_text_test SOURCES unit/common/plain_text_test.cc DEPENDS common)
keytrail_test(record_codec_test SOURCES unit/common/record_codec_test.cc DEPENDS test_records common
              PRIVATE_DEPENDS keytrail_record_proto)

keytrail_test(store_test SOURCES unit/store/store_test.cc
              DEPENDS test_records collector_store PRIVATE_DEPENDS SQLite::SQLite3)
keytrail_test(folder_test SOURCES unit/store/folder_test.cc
              DEPENDS test_records collector_store PRIVATE_DEPENDS SQLite::SQLite3)
keytrail_test(report_rows_test SOURCES unit/store/report_rows_test.cc DEPENDS collector_store)
keytrail_test(receiver_test SOURCES unit/receive/receiver_test.cc
              DEPENDS test_records collector_receive PRIVATE_DEPENDS keytrail_record_proto PkgConfig::ZMQ)
keytrail_test(quota_test SOURCES unit/receive/quota_test.cc DEPENDS collector_receive)
keytrail_test(door_test SOURCES unit/receive/door_test.cc
              DEPENDS test_records collector_receive PRIVATE_DEPENDS keytrail_record_proto PkgConfig::ZMQ)
keytrail_test(ship_session_test SOURCES unit/ship/ship_session_test.cc
              DEPENDS test_records agent_ship PRIVATE_DEPENDS keytrail_record_proto)
keytrail_test(ship_receive_test SOURCES unit/ship/ship_receive_test.cc
              DEPENDS test_records agent_ship collector_receive
              PRIVATE_DEPENDS keytrail_record_proto PkgConfig::ZMQ)
keytrail_test(row_printer_test SOURCES unit/cli/row_printer_test.cc ${CMAKE_SOURCE_DIR}/collector/cli/row_printer.cc
              DEPENDS collector_store collector_report)
keytrail_test(spool_test SOURCES unit/ship/spool_test.cc DEPENDS test_records agent_ship)
