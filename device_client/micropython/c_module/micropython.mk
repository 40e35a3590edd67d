# The C library as the module _weaklink, which weaklink.Encoder uses where it is there:
#   make -C ports/stm32 BOARD=PYBV11 USER_C_MODULES=/path/to/device_client/micropython
WEAKLINK_DIR := $(USERMOD_DIR)
# Without "..", which would put the objects outside of the build folder.
WEAKLINK_LIBRARY := $(abspath $(USERMOD_DIR)/../../stm32)

SRC_USERMOD_C += $(WEAKLINK_DIR)/modweaklink.c
SRC_USERMOD_LIB_C += $(addprefix $(WEAKLINK_LIBRARY)/src/, \
	wl_depthwise.c wl_encoder.c wl_full.c wl_key.c wl_plan.c wl_program.c)
CFLAGS_USERMOD += -I$(WEAKLINK_LIBRARY)/include -I$(WEAKLINK_LIBRARY)/src
