/* objects.c: see objects.h. objc_msgSend must leave every argument where the caller put it,
 * whatever the message's type: it is the one function that C cannot say. */
#include "objects.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED   __attribute__((visibility("default")))
#define POOLED_MAX 4096

void host_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("metal_host: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

static struct host_object *dead; /* kept: a message to one of them can be told */
static int alive;

void *host_new(const struct host_class *class)
{
    struct host_object *object = calloc(1, class->bytes);
    if (!object)
        host_die("no memory");
    object->isa = class;
    object->references = 1;
    alive++;
    return object;
}

static const char *name_of(const struct host_object *object)
{
    return object->isa->name;
}

void *host_retain(void *object)
{
    struct host_object *o = object;
    if (o && o->references <= 0)
        host_die("a freed %s is retained", name_of(o));
    if (o)
        o->references++;
    return object;
}

void host_release(void *object)
{
    struct host_object *o = object;
    if (!o)
        return;
    if (o->references <= 0)
        host_die("a freed %s is released", name_of(o));
    if (--o->references > 0)
        return;
    if (o->isa->free)
        o->isa->free(o);
    o->next = dead;
    dead = o;
    alive--;
}

static void *pooled[POOLED_MAX];
static int pooled_count, pools;

void *host_autorelease(void *object)
{
    if (!pools)
        host_die("a %s is autoreleased without a pool: it would leak", name_of(object));
    if (pooled_count == POOLED_MAX)
        host_die("more than %d objects in the pools", POOLED_MAX);
    pooled[pooled_count++] = object;
    return object;
}

EXPORTED void *objc_autoreleasePoolPush(void);
void *objc_autoreleasePoolPush(void)
{
    pools++;
    return (void *)(uintptr_t)(pooled_count + 1); /* where it begins; not NULL */
}

EXPORTED void objc_autoreleasePoolPop(void *pool);
void objc_autoreleasePoolPop(void *pool)
{
    int first = (int)(uintptr_t)pool - 1;
    if (pools == 0 || first < 0 || first > pooled_count)
        host_die("a pool is popped that is not there");
    pools--;
    while (pooled_count > first)
        host_release(pooled[--pooled_count]);
}

EXPORTED void *objc_getClass(const char *name);
void *objc_getClass(const char *name)
{
    for (int i = 0; i < host_class_count; i++)
        if (strcmp(host_classes[i]->name, name) == 0)
            return (void *)host_classes[i];
    return NULL;
}

static struct selector {
    struct selector *next;
    char name[96];
} * selectors;

EXPORTED void *sel_registerName(const char *name);
void *sel_registerName(const char *name)
{
    for (struct selector *s = selectors; s; s = s->next)
        if (strcmp(s->name, name) == 0)
            return s;
    struct selector *s = calloc(1, sizeof *s);
    if (!s || strlen(name) >= sizeof s->name)
        host_die("cannot register %s", name);
    strcpy(s->name, name);
    s->next = selectors;
    return selectors = s;
}

static const struct host_method *find(const struct host_class *class, const char *selector)
{
    const struct host_method *method = class->methods;
    while (method->selector && strcmp(method->selector, selector) != 0)
        method++;
    return method->selector ? method : NULL;
}

/* For the checks of the host's table: the encoding of a selector in the first class that has it. */
EXPORTED const char *metal_host_encoding(const char *selector);
const char *metal_host_encoding(const char *selector)
{
    for (int i = 0; i < host_class_count; i++) {
        const struct host_class *class = host_classes[i];
        const struct host_method *method = find(class, selector);
        if (!method && class->object.isa)
            method = find(class->object.isa, selector);
        if (method)
            return method->encoding;
    }
    return NULL;
}

/* A message to nil. */
static long nothing(void)
{
    return 0;
}

__attribute__((used)) void (*metal_host_lookup(struct host_object *to, struct selector *s))(void);
void (*metal_host_lookup(struct host_object *to, struct selector *s))(void)
{
    if (!to)
        return (void (*)(void))nothing;
    if (!to->isa)
        host_die("%s is sent to a class without class methods", s->name);
    if (to->references <= 0)
        host_die("%s is sent to a freed %s", s->name, name_of(to));
    const struct host_method *method = find(to->isa, s->name);
    if (!method)
        host_die("%s does not answer to %s", name_of(to), s->name);
    return method->call;
}

/* Saves what may hold arguments, looks the method up, and jumps into it. No message of ours has
 * floating point arguments. */
#if defined(__x86_64__)
__asm__(".text\n.globl objc_msgSend\n.type objc_msgSend,@function\nobjc_msgSend:\n"
        "push %rbp\nmov %rsp,%rbp\n"
        "push %rdi\npush %rsi\npush %rdx\npush %rcx\npush %r8\npush %r9\n"
        "call metal_host_lookup\n"
        "pop %r9\npop %r8\npop %rcx\npop %rdx\npop %rsi\npop %rdi\npop %rbp\n"
        "jmp *%rax\n.size objc_msgSend,.-objc_msgSend\n");
#elif defined(__aarch64__)
__asm__(".text\n.globl objc_msgSend\n.type objc_msgSend,%function\nobjc_msgSend:\n"
        "stp x29,x30,[sp,#-96]!\nmov x29,sp\n"
        "stp x0,x1,[sp,#16]\nstp x2,x3,[sp,#32]\nstp x4,x5,[sp,#48]\nstp x6,x7,[sp,#64]\n"
        "str x8,[sp,#80]\n"
        "bl metal_host_lookup\nmov x16,x0\n"
        "ldp x0,x1,[sp,#16]\nldp x2,x3,[sp,#32]\nldp x4,x5,[sp,#48]\nldp x6,x7,[sp,#64]\n"
        "ldr x8,[sp,#80]\n"
        "ldp x29,x30,[sp],#96\nbr x16\n.size objc_msgSend,.-objc_msgSend\n");
#else
#error "objc_msgSend is written for x86-64 and AArch64"
#endif

void host_expect(const void *object, const struct host_class *class, const char *where)
{
    const struct host_object *o = object;
    if (!o)
        host_die("%s: nil where a %s is wanted", where, class->name);
    if (o->references <= 0)
        host_die("%s: a freed %s", where, name_of(o));
    if (o->isa != class)
        host_die("%s: a %s where a %s is wanted", where, name_of(o), class->name);
}

/* When the last handle is closed: whoever made an object has released it. */
__attribute__((destructor)) static void count_alive(void)
{
    if (alive > 0)
        host_die("%d objects were never released", alive);
    while (dead) {
        struct host_object *next = dead->next;
        free(dead);
        dead = next;
    }
    while (selectors) {
        struct selector *next = selectors->next;
        free(selectors);
        selectors = next;
    }
}
