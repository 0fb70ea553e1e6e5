# keytrail fleet: what is read, planned and said, without a host.
keytrail_test(topology_test SOURCES unit/fleet/topology_test.cc DEPENDS deploy_fleet)
keytrail_test(fleet_plan_test SOURCES unit/fleet/fleet_plan_test.cc DEPENDS deploy_fleet)
keytrail_test(fleet_command_test SOURCES unit/fleet/fleet_command_test.cc DEPENDS deploy_fleet)
