/* source.c: reads the arguments of every kernel in the source. The compiled kernels are called by
 * the order of their arguments, Metal calls them by their attributes: here both are the same. */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char opening[] = "\nkernel void ";

struct signature {
    char name[64];
    int buffers; /* -1: fault */
    bool threadgroup;
};

static char fault[256];

static void note(struct signature *s, const char *what)
{
    snprintf(fault, sizeof fault, "kernel %s: %s", s->name, what);
    s->buffers = -1;
}

/* The next attribute of the arguments, "[[buffer(3)]]" or a macro that stands for one. */
static bool attribute_is(const char *at, const char *name)
{
    return strncmp(at, name, strlen(name)) == 0;
}

/* Buffers 0, 1, .. first, then threadgroup memory or none, then group and thread. */
static void read_arguments(struct signature *s, const char *at, const char *end)
{
    int positions = 0, numbers = 0;
    for (; at < end && s->buffers >= 0; at++) {
        if (attribute_is(at, "[[buffer(")) {
            if (positions || s->threadgroup || atoi(at + 9) != s->buffers)
                note(s, "a buffer out of order");
            else
                s->buffers++;
        } else if (attribute_is(at, "GROUP_MEMORY")) {
            if (positions || s->threadgroup)
                note(s, "threadgroup memory out of order");
            s->threadgroup = true;
        } else if (attribute_is(at, "[[threadgroup_position_in_grid]]")) {
            if (positions++ != 0)
                note(s, "the group's position is not the first");
        } else if (attribute_is(at, "[[thread_position_in_threadgroup]]")) {
            if (positions++ != 1)
                note(s, "the thread's position is not the second");
        } else if (attribute_is(at, "[[simdgroup_index_in_threadgroup]]")) {
            if (numbers++ != 0)
                note(s, "the simdgroup's index is not the first number");
        } else if (attribute_is(at, "[[thread_index_in_simdgroup]]")) {
            if (numbers++ != 1)
                note(s, "the lane is not the second number");
        } else if (attribute_is(at, "[[")) {
            note(s, "an attribute that tests/metal_host does not know");
        }
    }
    if (s->buffers >= 0 && positions != 2)
        note(s, "both positions are wanted");
}

/* The kernel that begins at or after *at, which moves behind it; false when there is none. */
static bool next_kernel(struct signature *s, const char **at)
{
    const char *begin = strstr(*at, opening);
    if (!begin)
        return false;
    begin += strlen(opening);
    *s = (struct signature){0};
    size_t length = strcspn(begin, "(");
    snprintf(s->name, sizeof s->name, "%.*s", (int)length, begin);
    const char *end = strstr(begin, "\n{");
    *at = end ? end : begin + length;
    read_arguments(s, begin + length, *at);
    return true;
}

const char *host_source_fault(const char *source)
{
    struct signature s;
    int kernels = 0;
    for (const char *at = source; next_kernel(&s, &at); kernels++) {
        if (s.buffers >= 0 && !metal_host_kernel_find_simdgroups(s.name))
            note(&s, "not listed in tests/metal_host/kernels.cpp");
        if (s.buffers < 0)
            return fault;
    }
    return kernels ? NULL : "the source has no kernel";
}

bool host_source_defines(const char *source, const char *name)
{
    static const char define[] = "#define ";
    size_t length = strlen(name);
    for (const char *at = source; strncmp(at, define, strlen(define)) == 0;
         at = strchr(at, '\n') + 1) {
        const char *word = at + strlen(define);
        if (strncmp(word, name, length) == 0 && word[length] == '\n')
            return true;
    }
    return false;
}

bool host_source_has(const char *source, const struct metal_host_kernel *kernel)
{
    struct signature s;
    for (const char *at = source; next_kernel(&s, &at);)
        if (strcmp(s.name, kernel->name) == 0)
            return s.buffers == kernel->buffers && s.threadgroup == kernel->uses_threadgroup;
    return false;
}
