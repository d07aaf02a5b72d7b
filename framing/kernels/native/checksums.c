/* Checksums that no library gives; framing/kernels/checksums.py is their reference.
 *
 * All are CRCs that take the least significant bit first, of 32 bits or fewer, so one loop serves them all. It takes eight
 * bytes at a time: tables[polynomial][k][byte] is what a byte adds to the remainder when k more bytes have gone by.
 */
#include "kernel.h"

#define HOME "framing.kernels.checksums"

typedef enum { CASTAGNOLI, MODBUS, CCITT, ETHERNET, POLYNOMIALS } Polynomial;

/* Each seen in a mirror: the least significant bit first. */
static const uint32_t mirrored[POLYNOMIALS] = {
    [CASTAGNOLI] = 0x82F63B78, [MODBUS] = 0xA001, [CCITT] = 0x8408, [ETHERNET] = 0xEDB88320};

static uint32_t tables[POLYNOMIALS][8][256];

void prepare_checksums(void) {
    for (int polynomial = 0; polynomial < POLYNOMIALS; polynomial++) {
        uint32_t(*table)[256] = tables[polynomial];
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t remainder = byte;
            for (int bit = 0; bit < 8; bit++) {
                remainder = remainder >> 1 ^ (remainder & 1 ? mirrored[polynomial] : 0);
            }
            table[0][byte] = remainder;
        }
        for (int behind = 1; behind < 8; behind++) {
            for (int byte = 0; byte < 256; byte++) {
                uint32_t before = table[behind - 1][byte];
                table[behind][byte] = before >> 8 ^ table[0][before & 0xFF];
            }
        }
    }
}

static uint32_t remainder_of(Polynomial polynomial, uint32_t remainder, const unsigned char *bytes, Py_ssize_t size) {
    const uint32_t(*table)[256] = (const uint32_t(*)[256])tables[polynomial];
    for (; size >= 8; size -= 8, bytes += 8) {
        remainder = table[7][(remainder ^ bytes[0]) & 0xFF] ^ table[6][(remainder >> 8 ^ bytes[1]) & 0xFF] ^
                    table[5][(remainder >> 16 ^ bytes[2]) & 0xFF] ^ table[4][(remainder >> 24 ^ bytes[3]) & 0xFF] ^
                    table[3][bytes[4]] ^ table[2][bytes[5]] ^ table[1][bytes[6]] ^ table[0][bytes[7]];
    }
    for (; size > 0; size--, bytes++) {
        remainder = remainder >> 8 ^ table[0][(remainder ^ *bytes) & 0xFF];
    }
    return remainder;
}

void check_sequence(int width, const unsigned char *bytes, Py_ssize_t size, unsigned char *sequence) {
    uint32_t check = 0;
    if (width > 0) {
        check = ~remainder_of(width == 2 ? CCITT : ETHERNET, width == 2 ? 0xFFFF : 0xFFFFFFFF, bytes, size);
    }
    for (int index = 0; index < width; index++) {
        sequence[index] = (unsigned char)(check >> 8 * index);
    }
}

static PyObject *checksum(const char *name, Polynomial polynomial, uint32_t first, uint32_t last, PyObject *payload) {
    Span span;
    if (!read_span(payload, &span)) {
        return call_reference(HOME, name, &payload, 1);
    }
    return PyLong_FromUnsignedLong(remainder_of(polynomial, first, span.bytes, span.size) ^ last);
}

PyObject *call_crc32c(PyObject *Py_UNUSED(module), PyObject *payload) {
    return checksum("crc32c", CASTAGNOLI, 0xFFFFFFFF, 0xFFFFFFFF, payload);
}

PyObject *call_crc16_modbus(PyObject *Py_UNUSED(module), PyObject *payload) {
    return checksum("crc16_modbus", MODBUS, 0xFFFF, 0, payload);
}

PyObject *call_crc16_x25(PyObject *Py_UNUSED(module), PyObject *payload) {
    return checksum("crc16_x25", CCITT, 0xFFFF, 0xFFFF, payload);
}

PyObject *call_crc16_kermit(PyObject *Py_UNUSED(module), PyObject *payload) {
    return checksum("crc16_kermit", CCITT, 0, 0, payload);
}
