// kernels.cpp: the Metal kernels, compiled for this machine, and a table of them. How a kernel is called follows from
// the types of its arguments and from their order, which common.metal lays down and runtime.c checks in the source.
#include "host.h"

#include <cstring>
#include <metal_stdlib>

namespace {

#include "backend/metal/params.h"

#include "backend/metal/common.metal"

#include "backend/metal/attention.metal"
#include "backend/metal/attention_simdgroups.metal"
#include "backend/metal/matrix.metal"
#include "backend/metal/norm.metal"
#include "backend/metal/pointwise.metal"

#undef device
#undef constant
#undef threadgroup
#undef kernel
#undef thread

// One argument: pointers before the parameters are buffers, a pointer after them is threadgroup memory, and of the two
// positions the group's comes first.
struct cursor {
    const metal_host_arguments *from;
    int buffers, positions, numbers;
    bool params;
};

template <typename T> struct argument;

template <typename T> struct argument<T *> {
    static T *take(cursor &at)
    {
        return (T *)(at.params ? at.from->threadgroup : at.from->buffer[at.buffers++]);
    }
};

template <typename T> struct argument<const T &> {
    static const T &take(cursor &at)
    {
        at.params = true;
        return *(const T *)at.from->buffer[at.buffers++];
    }
};

template <> struct argument<metal::uint> { // the simdgroup's index, then the lane's
    static metal::uint take(cursor &at) { return at.numbers++ == 0 ? at.from->index / 32 : at.from->index % 32; }
};

template <> struct argument<metal::uint3> {
    static metal::uint3 take(cursor &at)
    {
        const uint32_t *p = at.positions++ == 0 ? at.from->group : at.from->thread;
        return {p[0], p[1], p[2]};
    }
};

// What the types of a kernel's arguments say about it.
template <typename T> struct trait {
    static constexpr size_t buffer = 0, params = 0, position = 1;
};
template <typename T> struct trait<T *> {
    static constexpr size_t buffer = 1, params = 0, position = 0;
};
template <typename T> struct trait<const T &> {
    static constexpr size_t buffer = 1, params = sizeof(T), position = 0;
};

constexpr size_t sum() { return 0; }
template <typename... N> constexpr size_t sum(size_t first, N... rest) { return first + sum(rest...); }

// Braces evaluate from left to right, which the cursor relies on.
template <typename... A> struct call {
    template <void (*F)(A...)> static void run(const metal_host_arguments *arguments)
    {
        cursor at = {arguments, 0, 0, 0, false};
        struct apply {
            apply(A... a) { F(a...); }
        } all{argument<A>::take(at)...};
        (void)all;
    }
    // Threadgroup memory is the pointer behind the parameters: all but the last pointer are buffers then.
    static constexpr size_t pointers() { return sum(trait<A>::buffer...); }
    static constexpr size_t params() { return sum(trait<A>::params...); }
    static constexpr bool shares()
    {
        bool is_buffer[] = {trait<A>::buffer != 0 ...}, is_params[] = {trait<A>::params != 0 ...}, behind = false;
        bool found = false;
        for (size_t i = 0; i < sizeof...(A); i++) {
            found = found || (behind && is_buffer[i]);
            behind = behind || is_params[i];
        }
        return found;
    }
};

template <typename... A> call<A...> call_of(void (*)(A...));

#define KERNEL(name)                                                                                                   \
    {                                                                                                                  \
#name, int(decltype(call_of(name))::pointers() - decltype(call_of(name))::shares()),                           \
            decltype(call_of(name))::params(), decltype(call_of(name))::shares(),                                      \
            decltype(call_of(name))::run<name>                                                                         \
    }

const metal_host_kernel kernels[] = {
    KERNEL(act),    KERNEL(add),   KERNEL(attention_f32), KERNEL(attention_narrow),
    KERNEL(concat), KERNEL(embed), KERNEL(geglu),         KERNEL(matrix_f32),
    KERNEL(matrix_narrow), KERNEL(norm),
#ifdef SDW_METAL_SIMDGROUPS
    KERNEL(attention_simdgroups_f32), KERNEL(attention_simdgroups_narrow),
#endif
};

} // namespace

#if defined(SDW_METAL_SIMDGROUPS) && defined(SDW_METAL_BF16)
#define FIND metal_host_kernel_find_simdgroups_bf16
#elif defined(SDW_METAL_SIMDGROUPS)
#define FIND metal_host_kernel_find_simdgroups
#elif defined(SDW_METAL_BF16)
#define FIND metal_host_kernel_find_bf16
#else
#define FIND metal_host_kernel_find
#endif

extern "C" const metal_host_kernel *FIND(const char *name)
{
    for (const metal_host_kernel &row : kernels)
        if (std::strcmp(row.name, name) == 0)
            return &row;
    return nullptr;
}
