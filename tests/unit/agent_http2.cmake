keytrail_test(
  http2_frames_test
  SOURCES unit/agent/http2/frames_test.cc unit/agent/http2/protocol_test.cc unit/agent/http2/loss_test.cc
          unit/agent/http2/hostile_test.cc unit/agent/http2/caps_test.cc
  DEPENDS agent_http2
  PRIVATE_DEPENDS PkgConfig::NGHTTP2)
keytrail_test(
  http2_search_test
  SOURCES unit/agent/http2/frame_search_test.cc
  DEPENDS agent_http2
  PRIVATE_DEPENDS PkgConfig::NGHTTP2)
keytrail_test(
  http2_hpack_test
  SOURCES unit/agent/http2/hpack_decoder_test.cc unit/agent/http2/hpack_suite_test.cc
          unit/agent/http2/table_bridge_test.cc
  DEPENDS agent_http2
  PRIVATE_DEPENDS PkgConfig::NGHTTP2 PkgConfig::ZSTD)
target_compile_definitions(http2_hpack_test PRIVATE KEYTRAIL_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data"
                                                    KEYTRAIL_SHARED_DATA="${CMAKE_SOURCE_DIR}/../shared/data")
keytrail_test(
  http2_captures_test
  SOURCES unit/agent/http2/captures_test.cc
  DEPENDS agent_http2 agent_tcp agent_packet agent_capture)
target_compile_definitions(http2_captures_test PRIVATE KEYTRAIL_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data"
                                                       KEYTRAIL_SHARED_DATA="${CMAKE_SOURCE_DIR}/../shared/data")
