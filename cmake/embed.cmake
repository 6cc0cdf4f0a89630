# cmake -DFROM=file -DTO=file.c -DNAME=name -P embed.cmake: the bytes of a file as `const unsigned char name[]`.
file(READ "${FROM}" hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE "${TO}" "#include <stddef.h>
extern const unsigned char ${NAME}[];
extern const size_t ${NAME}_length;
const unsigned char ${NAME}[] = {${bytes}};
const size_t ${NAME}_length = sizeof ${NAME};
")
