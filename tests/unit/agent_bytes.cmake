keytrail_test(tcp_tracker_test SOURCES unit/agent/tcp/tcp_tracker_test.cc DEPENDS agent_tcp)
