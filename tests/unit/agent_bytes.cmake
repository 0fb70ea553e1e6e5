keytrail_test(tcp_tracker_test SOURCES unit/agent/tcp/tcp_tracker_test.cc DEPENDS agent_tcp)
keytrail_test(tcp_caps_test SOURCES unit/agent/tcp/caps_test.cc DEPENDS agent_tcp)
keytrail_test(tcp_order_test SOURCES unit/agent/tcp/tcp_order_test.cc DEPENDS agent_tcp)
keytrail_test(packet_decoder_test SOURCES unit/agent/packet/packet_decoder_test.cc DEPENDS agent_packet agent_capture)
target_compile_definitions(packet_decoder_test PRIVATE
                           KEYTRAIL_SHARED_DATA_DEFAULT="${CMAKE_SOURCE_DIR}/../shared/data")
keytrail_test(fragment_test SOURCES unit/agent/packet/fragment_test.cc unit/agent/schema/count_allocations.cc
              DEPENDS agent_packet)
keytrail_test(capture_test SOURCES unit/agent/capture/capture_test.cc unit/agent/capture/pcapng_test.cc
              unit/agent/capture/kernel_filter_test.cc DEPENDS agent_capture
              PRIVATE_DEPENDS PkgConfig::ZSTD PkgConfig::PCAP)
keytrail_test(focus_test SOURCES unit/agent/focus/focus_test.cc DEPENDS agent_focus)
