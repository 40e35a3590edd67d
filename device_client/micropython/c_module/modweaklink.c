/* MicroPython module _weaklink: the C library's encoder and ciphers.
 *
 *     encoder = _weaklink.Encoder(program)    # the bytes of encoder.bin; used where they lie
 *     height, width, symbols, bits_per_symbol, bitstream_bytes = encoder.shape()
 *     encoder.run(image, bitstream)           # RGB bytes; a bytearray of bitstream_bytes
 *     _weaklink.chacha20(key, counter, nonce) # 64 bytes
 *     _weaklink.blake2s(key, message, size)   # keyed, of 1 to 64 bytes */
#include "py/obj.h"
#include "py/runtime.h"

#include "wl_encoder.h"
#include "wl_key.h"

typedef struct {
    mp_obj_base_t base;
    mp_obj_t program; /* keeps the bytes from being collected */
    uint8_t *workspace;
    wl_encoder encoder;
} encoder_obj_t;

static void check(wl_error error)
{
    switch (error) {
    case WL_OK: return;
    case WL_ERROR_PROGRAM: mp_raise_ValueError(MP_ERROR_TEXT("not a whole encoder.bin"));
    case WL_ERROR_RANGE: mp_raise_ValueError(MP_ERROR_TEXT("encoder.bin whose sums are not proven to fit"));
    case WL_ERROR_LENGTH: mp_raise_ValueError(MP_ERROR_TEXT("a length that is not allowed"));
    default: mp_raise_msg_varg(&mp_type_ValueError, MP_ERROR_TEXT("error %d of the C library"), (int)error);
    }
}

static mp_obj_t encoder_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args)
{
    mp_arg_check_num(n_args, n_kw, 1, 1, false);
    mp_buffer_info_t program;
    mp_get_buffer_raise(args[0], &program, MP_BUFFER_READ);
    encoder_obj_t *self = mp_obj_malloc(encoder_obj_t, type);
    self->program = args[0];
    check(wl_encoder_open(&self->encoder, program.buf, program.len));
    /* The heap's blocks are aligned to more than the 4 bytes that the library asks for. */
    self->workspace = m_new(uint8_t, self->encoder.workspace_bytes);
    return MP_OBJ_FROM_PTR(self);
}

static mp_obj_t encoder_shape(mp_obj_t self_in)
{
    const wl_encoder *encoder = &((encoder_obj_t *)MP_OBJ_TO_PTR(self_in))->encoder;
    mp_obj_t items[] = {
        MP_OBJ_NEW_SMALL_INT(encoder->height),  MP_OBJ_NEW_SMALL_INT(encoder->width),
        mp_obj_new_int_from_uint(encoder->symbols), MP_OBJ_NEW_SMALL_INT(encoder->bits_per_symbol),
        mp_obj_new_int_from_uint(encoder->bitstream_bytes),
    };
    return mp_obj_new_tuple(MP_ARRAY_SIZE(items), items);
}
static MP_DEFINE_CONST_FUN_OBJ_1(encoder_shape_obj, encoder_shape);

static mp_obj_t encoder_run(mp_obj_t self_in, mp_obj_t image_in, mp_obj_t bitstream_in)
{
    encoder_obj_t *self = MP_OBJ_TO_PTR(self_in);
    mp_buffer_info_t program, image, bitstream;
    mp_get_buffer_raise(self->program, &program, MP_BUFFER_READ);
    mp_get_buffer_raise(image_in, &image, MP_BUFFER_READ);
    mp_get_buffer_raise(bitstream_in, &bitstream, MP_BUFFER_WRITE);
    if (program.buf != self->encoder.program || program.len != self->encoder.program_bytes) {
        mp_raise_ValueError(MP_ERROR_TEXT("the program was moved"));
    }
    if (image.len != (size_t)self->encoder.height * self->encoder.width * 3u) {
        mp_raise_ValueError(MP_ERROR_TEXT("the image has another size"));
    }
    check(wl_encoder_run(&self->encoder, image.buf, self->workspace, self->encoder.workspace_bytes, bitstream.buf,
                         bitstream.len));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_3(encoder_run_obj, encoder_run);

static const mp_rom_map_elem_t encoder_locals_table[] = {
    {MP_ROM_QSTR(MP_QSTR_shape), MP_ROM_PTR(&encoder_shape_obj)},
    {MP_ROM_QSTR(MP_QSTR_run), MP_ROM_PTR(&encoder_run_obj)},
};
static MP_DEFINE_CONST_DICT(encoder_locals, encoder_locals_table);

static MP_DEFINE_CONST_OBJ_TYPE(encoder_type, MP_QSTR_Encoder, MP_TYPE_FLAG_NONE, make_new, encoder_make_new,
                                locals_dict, &encoder_locals);

/* The bytes of an argument, which must be as many. */
static const uint8_t *exactly(mp_obj_t object, size_t bytes)
{
    mp_buffer_info_t info;
    mp_get_buffer_raise(object, &info, MP_BUFFER_READ);
    check(info.len == bytes ? WL_OK : WL_ERROR_LENGTH);
    return info.buf;
}

static mp_obj_t weaklink_chacha20(mp_obj_t key, mp_obj_t counter, mp_obj_t nonce)
{
    uint8_t block[WL_BLOCK_BYTES];
    check(wl_chacha20(exactly(key, WL_SECRET_BYTES), (uint32_t)mp_obj_get_int_truncated(counter), exactly(nonce, 12), block));
    return mp_obj_new_bytes(block, sizeof block);
}
static MP_DEFINE_CONST_FUN_OBJ_3(weaklink_chacha20_obj, weaklink_chacha20);

static mp_obj_t weaklink_blake2s(mp_obj_t key, mp_obj_t message_in, mp_obj_t size)
{
    uint8_t digest[32];
    mp_buffer_info_t message;
    mp_get_buffer_raise(message_in, &message, MP_BUFFER_READ);
    const mp_int_t bytes = mp_obj_get_int(size);
    check(bytes < 1 || bytes > (mp_int_t)sizeof digest ? WL_ERROR_LENGTH : WL_OK);
    check(wl_blake2s(exactly(key, WL_SECRET_BYTES), message.buf, message.len, digest, (size_t)bytes));
    return mp_obj_new_bytes(digest, (size_t)bytes);
}
static MP_DEFINE_CONST_FUN_OBJ_3(weaklink_blake2s_obj, weaklink_blake2s);

static const mp_rom_map_elem_t weaklink_globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__weaklink)},
    {MP_ROM_QSTR(MP_QSTR_Encoder), MP_ROM_PTR(&encoder_type)},
    {MP_ROM_QSTR(MP_QSTR_chacha20), MP_ROM_PTR(&weaklink_chacha20_obj)},
    {MP_ROM_QSTR(MP_QSTR_blake2s), MP_ROM_PTR(&weaklink_blake2s_obj)},
};
static MP_DEFINE_CONST_DICT(weaklink_globals, weaklink_globals_table);

const mp_obj_module_t weaklink_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&weaklink_globals,
};

MP_REGISTER_MODULE(MP_QSTR__weaklink, weaklink_module);
