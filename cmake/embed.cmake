# cmake "-DFROM=file;file" -DTO=file.c -DNAME=name -P embed.cmake: the bytes of the files, one after the other, as
# `const unsigned char name[]`; a NUL that the length does not count makes a string of a text.
set(hex "")
foreach(file IN LISTS FROM)
  file(READ "${file}" part HEX)
  string(APPEND hex "${part}")
endforeach()
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE "${TO}" "#include <stddef.h>
extern const unsigned char ${NAME}[];
extern const size_t ${NAME}_length;
const unsigned char ${NAME}[] = {${bytes}0};
const size_t ${NAME}_length = sizeof ${NAME} - 1;
")
