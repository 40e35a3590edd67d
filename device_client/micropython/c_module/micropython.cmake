# The C library as the module _weaklink, which weaklink.Encoder uses where it is there:
#   idf.py -D USER_C_MODULES=/path/to/device_client/micropython/c_module/micropython.cmake build
set(WEAKLINK_LIBRARY ${CMAKE_CURRENT_LIST_DIR}/../../stm32)

add_library(usermod_weaklink INTERFACE)
target_sources(usermod_weaklink INTERFACE
    ${CMAKE_CURRENT_LIST_DIR}/modweaklink.c
    ${WEAKLINK_LIBRARY}/src/wl_depthwise.c
    ${WEAKLINK_LIBRARY}/src/wl_encoder.c
    ${WEAKLINK_LIBRARY}/src/wl_full.c
    ${WEAKLINK_LIBRARY}/src/wl_key.c
    ${WEAKLINK_LIBRARY}/src/wl_plan.c
    ${WEAKLINK_LIBRARY}/src/wl_program.c
)
target_include_directories(usermod_weaklink INTERFACE ${WEAKLINK_LIBRARY}/include ${WEAKLINK_LIBRARY}/src)
target_link_libraries(usermod INTERFACE usermod_weaklink)
