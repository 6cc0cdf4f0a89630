/* same_picture A B SHARE: two picture files are the same picture: of one size, no value more than 1
 * of 255 apart, and at least SHARE of the values equal. Two devices that sum in another order in
 * f32 fall on either side of a rounding now and then, and no further. */
#include "image/decode.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static void read_picture(struct sdw_image *image, const char *path)
{
    static unsigned char bytes[1 << 20];
    struct sdw_error err = {.message = "it cannot be opened"};
    FILE *from = fopen(path, "rb");
    size_t length = from ? fread(bytes, 1, sizeof bytes, from) : 0;
    if (!from || sdw_image_decode(image, bytes, length, 3, &err)) {
        fprintf(stderr, "%s: %s\n", path, err.message);
        exit(2);
    }
    fclose(from);
}

int main(int argc, char **argv)
{
    struct sdw_image a, b;
    if (argc != 4) {
        fprintf(stderr, "usage: same_picture A B SHARE\n");
        return 2;
    }
    read_picture(&a, argv[1]);
    read_picture(&b, argv[2]);
    size_t count = sdw_image_bytes(&a), equal = 0;
    bool same = a.width == b.width && a.height == b.height;
    int worst = 0;
    for (size_t i = 0; same && i < count; i++) {
        int apart = abs(a.pixels[i] - b.pixels[i]);
        worst = apart > worst ? apart : worst;
        equal += apart == 0;
    }
    same = same && worst <= 1 && (double)equal >= strtod(argv[3], NULL) * (double)count;
    printf("%d x %d and %d x %d: at most %d apart, %zu of %zu values equal\n", a.width, a.height,
           b.width, b.height, worst, equal, count);
    sdw_image_free(&a);
    sdw_image_free(&b);
    return same ? 0 : 1;
}
