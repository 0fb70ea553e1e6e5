# Whose connections are whose.
keytrail_test(process_names_test SOURCES unit/agent/process/process_names_test.cc DEPENDS agent_process)
