# What an agent may use.
keytrail_test(restraint_test SOURCES unit/agent/restraint/restraint_test.cc DEPENDS agent_restraint)
