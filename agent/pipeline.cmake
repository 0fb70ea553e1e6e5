add_library(keytrail_agent_pipeline STATIC pipeline.cc)
target_link_libraries(keytrail_agent_pipeline PUBLIC keytrail_agent_ship keytrail_agent_grpc keytrail_agent_schema
                      keytrail_agent_http2 keytrail_agent_tcp keytrail_agent_packet keytrail_agent_focus keytrail_agent_capture keytrail_common)

add_executable(keytrail-agent main.cc arguments.cc attention_ticker.cc metrics.cc self_restraint.cc)
target_link_libraries(keytrail-agent PRIVATE keytrail_agent_pipeline keytrail_agent_restraint keytrail_agent_doctor keytrail_agent_process keytrail_operations_port
                      keytrail_confinement)
install(TARGETS keytrail-agent RUNTIME DESTINATION bin COMPONENT agent)
