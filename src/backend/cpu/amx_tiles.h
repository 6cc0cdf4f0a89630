/* amx_tiles.h: the eight tile registers of AMX, for the files that are compiled with them. A tile
 * is 16 rows of 64 bytes: of bf16, 16 rows by 32 numbers; of f32, 16 by 16. `c += a . b` wants b
 * with pairs of its rows side by side: [16 pairs][16 columns][2] (Intel's manual, TDPBF16PS). */
#ifndef SDW_BACKEND_CPU_AMX_TILES_H
#define SDW_BACKEND_CPU_AMX_TILES_H

#include <immintrin.h>
#include <stdint.h>

#define TILE_ROWS  16
#define TILE_DEPTH 32  /* bf16 numbers of a row: what one product sums over */
#define TILE_BF16  512 /* numbers of a tile */

struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* gcc 12 does not know that a tile's load reads memory. */
#define TILES_SEE_MEMORY __asm__ volatile("" ::: "memory")

/* Between these two a thread may use tiles; all eight are whole ones. oneDNN has shapes of its own,
 * so each piece of work sets them anew. */
static inline void tiles_begin(void)
{
    static const struct tile_shapes shapes = {
        .palette = 1,
        .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
        .rows = {16, 16, 16, 16, 16, 16, 16, 16},
    };
    _tile_loadconfig(&shapes);
}

/* Where 16 rows begin that lie `stride` numbers apart: for a gather of a column of them. */
static inline __m512i tile_row_starts(int stride)
{
    return _mm512_mullo_epi32(
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
        _mm512_set1_epi32(stride));
}

static inline void tiles_end(void)
{
    _tile_release();
}

#endif
